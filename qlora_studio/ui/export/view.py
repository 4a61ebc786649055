"""What the Export page says, and its uploads, as values. Sizes are bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.disk_need import export_bytes, export_name
from qlora_studio.core.export.formats import PRECISIONS, ExportFormat, all_formats, parse_format
from qlora_studio.core.export.serving import ServingCommand, serving_commands
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.activity import Phase, activity_words
from qlora_studio.core.run.events import Exported
from qlora_studio.core.run.reports import BasesReport, UploadReported, VerificationPlanned, VerificationReport
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.storage.drive_space import DriveSpace, Writing, drives
from qlora_studio.storage.runs.run_folder import folder_name
from qlora_studio.storage.runs.upload_files import UploadFile, check_repository, is_verified, traces
from qlora_studio.ui.state.run_choice import RunChoice

_SUBJECTS = {
    "base": say("Base model"),
    "adapter": say("Adapter as trained"),
    "adapter on 16 bit": say("Adapter on the original weights"),
    "merged": say("This export"),
    "gguf": say("This export (GGUF)"),
}
BASES = {"original": say("Original 16-bit weights"), "nf4": say("4-bit weights of the training")}
IMPORTANCE = {"auto": say("Auto: below q5"), "on": say("On"), "off": say("Off")}
_SHOWN = 6  # files by name; the rest are counted


@dataclass(frozen=True)
class ValueRow:
    """A name and its values. `note` stands behind them, in the accent's colour."""

    name: str
    values: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class ReportedCheck:
    """A check of a verification report, as a line of a list."""

    title: str
    message: str
    level: str


def kind_choices() -> dict[str, tuple[ExportFormat, ...]]:
    """Return the formats by kind, in the order of the page."""
    found: dict[str, tuple[ExportFormat, ...]] = {}
    for item in all_formats():
        found[item.kind] = (*found.get(item.kind, ()), item)
    return found


def precision_words(item: ExportFormat) -> str:
    """Return a precision for a combo box."""
    precision = PRECISIONS.get(item.precision)
    return say("{name}, {bits:g} bit", name=item.precision, bits=precision.bits) if precision else item.precision


def size_text(item: ExportFormat, run: RunChoice | None) -> str:
    """Return about how large an export will be."""
    size = item.size(run.parameters, run.adapter_bytes) if run else 0
    return say("about {size}", size=bytes_text(size)) if size else ""


def drives_for(run: RunChoice, wanted: Sequence[ExportFormat], folder: str) -> tuple[DriveSpace, ...]:
    """Return the drives that an export writes to, with what it takes; none where nothing is wanted or known."""
    place = Path(folder or run.exports_dir)
    sizes = ((item, export_bytes(item, run.parameters, run.adapter_bytes)) for item in wanted if run.parameters)
    return drives(Writing(place, export_name(item), size) for item, size in sizes)


def export_progress(state: RunState) -> tuple[str, float | None]:
    """Return what an export does, and its share where that is known."""
    progress = state.progress
    words = activity_words(state.activity) or Phase.STARTING.words
    if progress is None or not progress.total:
        return f"{words} …", None
    if progress.unit == "bytes":
        return say(
            "{words}: {done} of {total}", words=words, done=bytes_text(progress.done), total=bytes_text(progress.total)
        ), progress.done / progress.total
    unit = f" {progress.unit}" if progress.unit else ""
    return say(
        "{words}: {done:,} of {total:,}{unit}", words=words, done=progress.done, total=progress.total, unit=unit
    ), progress.done / progress.total


def planned_verification(state: RunState) -> str:
    """Return how the verification of an export goes about it, once that is told, and what stopping it means."""
    found = [item.report for item in state.reports if isinstance(item, VerificationPlanned)]
    if not found:
        return ""
    kept = say("What is done is kept when it is stopped.") if found[-1].way == "streamed" else ""
    return f"{found[-1].words}. {kept}".strip()


def commands_for(exported: Exported, run: RunChoice) -> tuple[ServingCommand, ...]:
    """Return what to type to use an export."""
    try:
        shape = parse_format(exported.format)
    except StudioError:
        return ()
    folder = Path(exported.path)
    file = exported.facts.file or next((path.name for path in sorted(folder.glob("*.gguf"))), "")
    name, told = folder_name(run.name), exported.facts
    is_served = bool(told.vllm_applied) or not told.vllm_modules  # nobody has looked at what older versions wrote
    return serving_commands(shape, folder, file=file, name=name, base=run.base, rank=run.rank, vllm=is_served)


def measured_losses(report: VerificationReport) -> tuple[ValueRow, ...]:
    """Return what a verification measured on the held-out rows: whose loss, and how far from the adapter as trained."""
    divergences = {"adapter": 0.0, **dict.fromkeys(("merged", "gguf"), report.divergence_as_trained)}
    return tuple(
        ValueRow(_SUBJECTS.get(name, name), (f"{value:.4f}", _divergence(divergences.get(name))))
        for name, value in report.losses.items()
        if value is not None
    )


def compared_bases(report: VerificationReport) -> tuple[ValueRow, ...]:
    """Return what merging into either base was measured to give; nothing where it was not measured."""
    if report.bases is None:
        return ()
    return tuple(
        ValueRow(
            BASES.get(item.base, item.base),
            (f"{item.loss:.4f}", _divergence(item.divergence)),
            say("better here") if item.base == report.bases.recommended else "",
        )
        for item in report.bases.bases
        if item.loss is not None
    )


def better_base(report: VerificationReport) -> str:
    """Return the recommendation in a sentence, and whether the export follows it."""
    if report.bases is None or not report.bases.recommended:
        return ""
    better, by = report.bases.recommended, _by_how_much(report.bases)
    words = BASES.get(better, better)
    if report.base_weights == better:
        return say("{words}: better on your own rows{by}, and what this export was merged into.", words=words, by=by)
    return say(
        "{words} would be better on your own rows{by}. Choose them under Merged into, and export again.",
        words=words,
        by=by,
    )


def _by_how_much(bases: BasesReport) -> str:
    gain, error = bases.gain_of_nf4, bases.standard_error
    if gain is None or error is None:
        return ""
    if bases.recommended == "original" and gain > -2 * error:
        return say(" or no worse beyond doubt")
    return say(" by {gain:.4f} ± {error:.4f}", gain=abs(gain), error=2 * error)


def _divergence(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def verification_checks(report: VerificationReport) -> tuple[ReportedCheck, ...]:
    """Return the checks of a verification as lines of a list, and how surely answers end."""
    found = [
        ReportedCheck(_title(check.name), check.message, "ok" if check.passed else "error") for check in report.checks
    ]
    if ends := report.ends:
        found.append(
            ReportedCheck(say("Ends"), f"{ends.words} {ends.warning}".strip(), "warning" if ends.warning else "ok")
        )
    return tuple(found)


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def summary(files: Sequence[UploadFile], repository: str, *, private: bool) -> str:
    """Return what goes where, and who will see it."""
    size = bytes_text(sum(file.size for file in files))
    place = f"huggingface.co/{repository}" if repository else say("a repository of yours on huggingface.co")
    seen = say("Only you, and whom you let, can see it.") if private else say("Everybody can see it.")
    return say(
        "{files} files, {size}, go to {place}. {seen} The token is the one that `hf auth login` stored.",
        files=len(files),
        size=size,
        place=place,
        seen=seen,
    )


def file_list(files: Sequence[UploadFile]) -> str:
    """Return the files by name, the largest first."""
    largest = sorted(files, key=lambda file: -file.size)
    named = [f"{file.name} ({bytes_text(file.size)})" for file in largest[:_SHOWN]]
    rest = len(files) - len(named)
    return ", ".join(named) + (say(", and {rest} small ones", rest=rest) if rest > 0 else "")


def objection(folder: Path, repository: str) -> str:
    """Return why an export is not uploaded unless the user insists; nothing where there is no reason."""
    if not is_verified(folder):
        return say("This export is not verified. Nobody knows whether it is right.")
    found = traces(folder, owner=repository.partition("/")[0])
    return say("It tells of this computer: {found}.", found=found[0]) if found else ""


def is_repository(name: str) -> bool:
    """Whether a text names a repository, owner/name."""
    try:
        return bool(check_repository(name))
    except StudioError:
        return False


def outcome(state: RunState) -> tuple[str, str]:
    """Return in words how an upload is going or has ended, and a tone."""
    if state.failure is not None:
        return f"{state.failure.message} {state.failure.advice}".strip(), "bad"
    if state.phase is Phase.STOPPED:
        return say("Stopped. The repository is as it was."), "muted"
    report = next((item.report for item in state.reports if isinstance(item, UploadReported)), None)
    if report is not None:
        return say("Uploaded: {url}", url=report.url), "ok"
    progress = state.progress
    if progress is not None and progress.total:
        return say("Uploading: {done} of {total}", done=bytes_text(progress.done), total=bytes_text(progress.total)), ""
    return say("Checking the export …"), ""


def share(state: RunState) -> float | None:
    """Return how much of an upload is done, None where that is not known."""
    progress = state.progress
    return progress.done / progress.total if progress is not None and progress.total else None
