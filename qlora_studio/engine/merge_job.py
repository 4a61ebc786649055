"""Merge an adapter made elsewhere: a base folder and an adapter folder, without a run."""

from pathlib import Path

from qlora_studio.core.events import Exported, Finished
from qlora_studio.core.job import MergeJob
from qlora_studio.engine.base_model import base_folder
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.merge import merge_adapter


def run(job: MergeJob, context: JobContext) -> Finished:
    """Merge, and tell where the result is."""
    base = base_folder(job.base_model, "", context)
    out = Path(job.out_dir).expanduser().absolute()
    context.phase("merging")

    def progress(done: int, total: int) -> None:
        context.raise_if_stopped()
        context.progress("merging", done, total, "bytes")

    report = merge_adapter(base, Path(job.adapter).expanduser(), out, force=job.force, progress=progress)
    facts = {
        "out_dir": str(out),
        "seconds": report.seconds,
        "peak_rss_bytes": report.peak_rss_bytes,
        "tensors_merged": report.tensors_merged,
    }
    context.emit(Exported(format="safetensors", path=str(out), size_bytes=report.bytes, facts=facts))
    return Finished(facts=facts)
