"""What the upload of an export says, as values."""

from collections.abc import Sequence
from pathlib import Path

from qlora_studio.core.errors import StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.events import Reported
from qlora_studio.core.run.run_state import Phase, RunState
from qlora_studio.storage.runs.upload_files import UploadFile, check_repository, is_verified, traces

_SHOWN = 6  # files by name; the rest are counted


def summary(files: Sequence[UploadFile], repository: str, *, private: bool) -> str:
    """Return what goes where, and who will see it."""
    size = bytes_text(sum(file.size for file in files))
    place = f"huggingface.co/{repository}" if repository else "a repository of yours on huggingface.co"
    seen = "Only you, and whom you let, can see it." if private else "Everybody can see it."
    return f"{len(files)} files, {size}, go to {place}. {seen} The token is the one that `hf auth login` stored."


def file_list(files: Sequence[UploadFile]) -> str:
    """Return the files by name, the largest first."""
    largest = sorted(files, key=lambda file: -file.size)
    named = [f"{file.name} ({bytes_text(file.size)})" for file in largest[:_SHOWN]]
    rest = len(files) - len(named)
    return ", ".join(named) + (f", and {rest} small ones" if rest > 0 else "")


def objection(folder: Path, repository: str) -> str:
    """Return why an export is not uploaded unless the user insists; nothing where there is no reason."""
    if not is_verified(folder):
        return "This export is not verified. Nobody knows whether it is right."
    found = traces(folder, owner=repository.partition("/")[0])
    return f"It tells of this computer: {found[0]}." if found else ""


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
        return "Stopped. The repository is as it was.", "muted"
    report = next((item.report for item in state.reports if _is_upload(item)), None)
    if report is not None:
        return f"Uploaded: {report['url']}", "ok"
    progress = state.progress
    if progress is not None and progress.total:
        return f"Uploading: {bytes_text(progress.done)} of {bytes_text(progress.total)}", ""
    return "Checking the export …", ""


def share(state: RunState) -> float | None:
    """Return how much of an upload is done, None where that is not known."""
    progress = state.progress
    return progress.done / progress.total if progress is not None and progress.total else None


def _is_upload(item: Reported) -> bool:
    return item.kind == "upload"
