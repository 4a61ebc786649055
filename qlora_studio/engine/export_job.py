"""The export job: write what was asked for, then have each export verified by a fresh process."""

from qlora_studio.core.events import Finished
from qlora_studio.core.job import ExportJob
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export import export_run
from qlora_studio.storage.run_folder import RunFolder


def run(job: ExportJob, context: JobContext) -> Finished:
    """Export a run, then verify."""
    run_folder = RunFolder(job.run_dir)
    exports = export_run(
        run_folder,
        formats=list(job.formats),
        checkpoint=job.checkpoint,
        base=job.base,
        out_dir=job.out_dir,
        context=context,
    )
    return Finished(facts={"exports": {event.format: event.path for event in exports}})
