"""The export job: write what was asked for, then have each export proved by a fresh process."""

from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Exported, Failed, Finished
from qlora_studio.core.run.job import ExportJob, VerifyJob
from qlora_studio.core.run.reports import ExportFacts, FormatCheck, VerificationReported
from qlora_studio.core.words import say
from qlora_studio.engine.child_job import run_child
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.merge.writer import peak_rss
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import TrustedRun


def run(job: ExportJob, context: JobContext) -> Finished:
    """Export a run, then verify each export; a failed verification is told, and the export stays."""
    run_folder = TrustedRun(job.run_dir)
    exports = export_run(
        run_folder,
        formats=list(job.formats),
        checkpoint=job.checkpoint,
        base=job.base,
        out_dir=job.out_dir,
        importance_matrix=job.importance_matrix,
        channel=context,
        force=job.force,
    )
    peak = peak_rss()
    verified, checks = verify_exports(run_folder, exports, context)
    return Finished(
        facts=ExportFacts(
            verified=verified,
            checks=checks,
            out_dir=exports[0].path if exports else "",
            exports={event.format: event.path for event in exports},
            tensors_merged=max((event.facts.tensors_merged for event in exports), default=0),
            peak_rss_bytes=peak,
        )
    )


def verify_exports(
    run_folder: RunFolder, exports: list[Exported], context: JobContext
) -> tuple[bool, tuple[FormatCheck, ...]]:
    """Have exports verified by a fresh process; return whether all are right, and every check.

    What could not be verified is told in a warning; nothing is removed.
    """
    if not exports:
        return False, ()
    context.phase(Activity.VERIFYING)
    first, *rest = [event.path for event in exports]
    job = VerifyJob(path=first, more=rest, run_dir=str(run_folder.path.resolve()), bases=True)
    ending, reports = run_child(job, context.folder.jobs_path, context)
    found = [item.report for item in reports if isinstance(item, VerificationReported)]
    if isinstance(ending, Failed):
        context.warn("not_verified", say("The export could not be verified: {message}", message=ending.message))
    for report in found:
        if failed := [check.name for check in report.checks if not check.passed]:
            context.warn(
                "not_verified",
                say(
                    "{format} did not pass: {failed}. See verification.md.",
                    format=report.format,
                    failed=", ".join(failed),
                ),
            )
        if report.ends is not None and report.ends.warning:
            context.warn("ends", f"{report.format}: {report.ends.words} {report.ends.warning}")
    verified = len(found) == len(exports) and all(report.verified for report in found)
    return verified, tuple(check for report in found for check in report.named_checks())
