"""The verification job: what was exported is read again, in a fresh process, and proved; the proof lies beside it."""

from pathlib import Path

from qlora_studio.core.export.verification_page import verification_page
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import VerifyJob
from qlora_studio.core.run.reports import (
    BasesReported,
    ExportFacts,
    FormatCheck,
    VerificationReport,
    VerificationReported,
)
from qlora_studio.engine.context import Channel, JobContext
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.subject import foreign_subject, subject_of
from qlora_studio.engine.verification.verifier import Verifier, check_files
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.runs.export_folder import VERIFICATION_FILES, read_export
from qlora_studio.storage.runs.trusted_run import TrustedRun
from qlora_studio.storage.settings import load_settings


def run(job: VerifyJob, context: JobContext) -> Finished:
    """Verify, tell with `Reported`, and write `verification.json` and a page for people; for each export."""
    verifier = Verifier(context, models=3 + len(job.more) + 1 + job.bases, wish=job.way)
    verified = True
    checks: list[FormatCheck] = []
    for number, path in enumerate([job.path, *job.more]):
        context.phase(Activity.VERIFYING)
        folder = Path(path)
        foreign = (Path(job.base_model), Path(job.adapter)) if job.adapter else None
        with_bases = job.bases and number == 0
        found = _verify(folder, job.run_dir, verifier, context, with_bases=with_bases, foreign=foreign)
        report = found.report(str(folder))
        write_proof(folder, report)
        context.emit(VerificationReported(report=report))
        verified = verified and found.verified
        checks += report.named_checks()
    verifier.finish()
    return Finished(facts=ExportFacts(verified=verified, checks=tuple(checks), out_dir=job.path))


def _verify(
    folder: Path,
    run_dir: str,
    verifier: Verifier,
    channel: Channel,
    *,
    with_bases: bool,
    foreign: tuple[Path, Path] | None = None,
) -> Verification:
    if foreign is not None:
        return verifier.verify(foreign_subject(folder, *foreign))
    source = _run_of(folder, run_dir)
    if source is None:
        found = Verification(read_export(folder).format)
        check_files(folder, found)
        found.add("comparison", False, "The run that this came from is not on this computer: nothing to compare with.")
        return found
    subject = subject_of(folder, source, channel)
    found = verifier.verify(subject)
    if with_bases:
        found.bases = verifier.compare_bases(subject)
    if found.bases is not None:
        channel.emit(BasesReported(report=found.bases))
    return found


def write_proof(folder: Path, report: VerificationReport) -> None:
    """Write the report beside what it is about. Raises StudioError where that cannot be."""
    data, page = VERIFICATION_FILES
    write_atomically(folder / data, report.model_dump_json(indent=1, exclude={"path"}).encode())
    write_atomically(folder / page, verification_page(report).encode())


def _run_of(folder: Path, named: str) -> TrustedRun | None:
    """Return the run that an export came from: named, around it, or among the user's runs by its name."""
    name = read_export(folder).run
    places = [Path(named)] if named else [*folder.resolve().parents[:3]]
    if name and name == Path(name).name:
        places.append(load_settings().runs_path / name)
    return next((TrustedRun(place) for place in places if (place / "run.toml").is_file()), None)
