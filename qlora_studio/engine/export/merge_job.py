"""Merge an adapter made elsewhere: a base folder and an adapter folder, without a run; then have the result proved."""

import json
from functools import partial
from pathlib import Path

from qlora_studio.core.export.model_card import public_name
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Exported, Failed, Finished
from qlora_studio.core.run.job import MergeJob, VerifyJob
from qlora_studio.core.run.reports import ExportedFacts, ExportFacts, VerificationReport, VerificationReported
from qlora_studio.core.words import say
from qlora_studio.engine.child_job import run_child
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export.sidecar import PROVENANCE, copy_adapter
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.model.generation_config import complete_generation_config
from qlora_studio.engine.model.original import merge_base
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.models.quantized_base import original_name
from qlora_studio.storage.runs.fingerprint import fingerprint_folder


def run(job: MergeJob, context: JobContext) -> Finished:
    """Merge, tell where the result is, and whether it computes what base and adapter compute."""
    base = merge_base(job.base_model, channel=context)
    adapter, out = whole_path(job.adapter), whole_path(job.out_dir).absolute()
    context.phase(Activity.MERGING)

    def progress(done: int, total: int) -> None:
        context.raise_if_stopped()
        context.progress("merging", done, total, "bytes")

    complete = partial(_complete, base=base, adapter=adapter, name=public_name(_name_of(base, job.base_model)))
    report = merge_adapter(base, adapter, out, force=job.force, progress=progress, complete=complete)
    facts = ExportedFacts(
        tensors_merged=report.tensors_merged, seconds=report.seconds, peak_rss_bytes=report.peak_rss_bytes
    )
    context.emit(Exported(format="safetensors", path=str(out), size_bytes=report.bytes, facts=facts))
    found = _verified(out, base, adapter, context)
    return Finished(
        facts=ExportFacts(
            verified=found.verified,
            checks=tuple(found.named_checks()),
            out_dir=str(out),
            tensors_merged=report.tensors_merged,
            seconds=report.seconds,
            peak_rss_bytes=report.peak_rss_bytes,
        )
    )


def _name_of(base: Path, named: str) -> str:
    """Return the name of what the adapter is merged into: of the original, where the one named is stored in 4 bits."""
    location = locate_model(named)
    if location.path is None or location.path == base or location.kind == "gguf":
        return named
    return original_name(location.path, named, "")


def _complete(folder: Path, *, base: Path, adapter: Path, name: str) -> None:
    """Keep the base's name and fingerprint, and the adapter, beside what they became."""
    complete_generation_config(folder)
    (folder / PROVENANCE / "adapter").mkdir(parents=True)
    facts = {"source": name, "weights": "original", "fingerprint": fingerprint_folder(base).model_dump()}
    (folder / PROVENANCE / "base.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    copy_adapter(adapter, folder / PROVENANCE / "adapter", name)


def _verified(out: Path, base: Path, adapter: Path, context: JobContext) -> VerificationReport:
    context.phase(Activity.VERIFYING)
    job = VerifyJob(path=str(out), base_model=str(base.resolve()), adapter=str(adapter.resolve()))
    ending, reports = run_child(job, context.folder.path / "jobs", context)
    found = next((item.report for item in reports if isinstance(item, VerificationReported)), None)
    if found is None:
        why = ending.message if isinstance(ending, Failed) else "it was stopped"
        context.warn("not_verified", say("The merge could not be verified: {why}", why=why))
        return VerificationReport()
    return found
