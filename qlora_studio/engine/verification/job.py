"""The verification job: what was exported is read again, in a fresh process, and proved; the proof lies beside it."""

import json
from pathlib import Path
from typing import Any

from qlora_studio.core.export.verification_page import verification_page
from qlora_studio.core.run.events import Finished, Reported
from qlora_studio.core.run.job import VerifyJob
from qlora_studio.engine.context import Channel, JobContext
from qlora_studio.engine.verification.base_comparison import compare_bases
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.subject import foreign_subject, subject_of
from qlora_studio.engine.verification.verifier import Verifier, check_files
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.runs.export_folder import VERIFICATION_FILES, read_manifest
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import load_settings


def run(job: VerifyJob, context: JobContext) -> Finished:
    """Verify, tell with `Reported`, and write `verification.json` and a page for people; for each export."""
    verifier = Verifier(context)
    verified, checks = True, []
    for number, path in enumerate([job.path, *job.more]):
        context.phase("verifying")
        folder = Path(path)
        foreign = (Path(job.base_model), Path(job.adapter)) if job.adapter else None
        with_bases = job.bases and number == 0
        found, extra = _verify(folder, job.run_dir, verifier, context, with_bases=with_bases, foreign=foreign)
        report = {**found.report(), **extra}
        write_proof(folder, report)
        context.emit(Reported(kind="verification", report={**report, "path": str(folder)}))
        verified = verified and found.verified
        checks += [{**check, "format": found.format} for check in found.checks]
    return Finished(facts={"out_dir": job.path, "verified": verified, "checks": checks})


def _verify(
    folder: Path,
    run_dir: str,
    verifier: Verifier,
    channel: Channel,
    *,
    with_bases: bool,
    foreign: tuple[Path, Path] | None = None,
) -> tuple[Verification, dict[str, Any]]:
    if foreign is not None:
        return verifier.verify(foreign_subject(folder, *foreign)), {}
    source = _run_of(folder, run_dir)
    if source is None:
        found = Verification(str(read_manifest(folder).get("format", "")))
        check_files(folder, found)
        found.add("comparison", False, "The run that this came from is not on this computer: nothing to compare with.")
        return found, {}
    subject = subject_of(folder, source, channel)
    found = verifier.verify(subject)
    references, rows = verifier.references, verifier.rows
    if not with_bases or references is None or references.live is None or rows is None:
        return found, {}
    if subject.config is None or subject.config.quantization.method == "none":
        return found, {}
    channel.phase("comparing_bases")
    loss = references.trained.loss
    bases = compare_bases(subject.config, subject.base, subject.adapter, rows, references.live, loss, channel)
    channel.emit(Reported(kind="bases", report=bases))
    return found, {"bases": bases}


def write_proof(folder: Path, report: dict[str, Any]) -> None:
    """Write the report beside what it is about. Raises StudioError where that cannot be."""
    data, page = VERIFICATION_FILES
    write_atomically(folder / data, json.dumps(report, indent=1, ensure_ascii=False).encode())
    write_atomically(folder / page, verification_page(report).encode())


def _run_of(folder: Path, named: str) -> RunFolder | None:
    """Return the run that an export came from: named, around it, or among the user's runs by its name."""
    name = str(read_manifest(folder).get("run", ""))
    places = [Path(named)] if named else [*folder.resolve().parents[:3]]
    if name and name == Path(name).name:
        places.append(load_settings().runs_path / name)
    return next((RunFolder(place) for place in places if (place / "run.toml").is_file()), None)
