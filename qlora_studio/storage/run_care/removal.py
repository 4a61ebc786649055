"""When the folder of a run may be removed: nobody is at work in it, and all that is in it is the program's own."""

import shutil
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.durable import not_writable
from qlora_studio.storage.places import is_place_known
from qlora_studio.storage.run_care import run_label
from qlora_studio.storage.runs import elsewhere_record
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.staging import staging_path

_OURS = {"run.toml", "run.lock", "job.json", "events.jsonl", "commands.jsonl", "worker.log", run_label.FILE}
_OURS |= {".reserve", "checkpoints", "adapter", "exports", "jobs", elsewhere_record.FOLDER}
_OF_THE_DESKTOP = {".DS_Store", ".directory", "desktop.ini", "Thumbs.db"}  # looking at a folder leaves these there


def require_removable(folder: RunFolder) -> None:
    """Raise StudioError where a run is at work, or its folder is a link or holds what is not of the run.

    Of a run at a place that its user forgot nobody can say any more whether it is at work: it may be removed.
    """
    record = elsewhere_record.known_record(folder.path)
    if record is not None and record.open and is_place_known(record.place):
        raise StudioError(
            say("{name} is left where it is: its job on another computer is not over.", name=folder.path.name),
            kind=FailureKind.RUN_BUSY,
            advice=say('Cancel the job first: qlora-studio elsewhere cancel "{path}"', path=folder.path),
        )
    if worker := next((place for place in (folder, *_jobs(folder)) if place.is_locked()), None):
        what = "A worker" if worker is folder else f"{worker.path.name}, an export or a chat of it,"
        raise StudioError(
            say("{name} is left where it is: {what} is at work there.", name=folder.path.name, what=what),
            kind=FailureKind.RUN_BUSY,
            advice=say("Stop it first."),
        )
    try:
        names = {path.name for path in folder.path.iterdir()}
    except OSError as error:
        raise not_writable(folder.path, error) from error
    foreign = sorted(names - _OURS - _OF_THE_DESKTOP)
    if folder.path.is_symlink():
        raise _not_removed(folder.path, say("is a link to a folder elsewhere"))
    if foreign:
        raise _not_removed(folder.path, say("holds {foreign}, which is not ours", foreign=foreign[0]))


def remove_for_ever(folder: RunFolder) -> None:
    """Remove a run's folder; links in it go, what they lead to does not. Raises StudioError where it may not go."""
    require_removable(folder)
    try:
        shutil.rmtree(folder.path.rename(staging_path(folder.path)))
    except OSError as error:
        raise not_writable(folder.path, error) from error


def _jobs(folder: RunFolder) -> list[RunFolder]:
    try:
        return [RunFolder(path) for path in folder.jobs_path.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _not_removed(path: Path, why: str) -> StudioError:
    return StudioError(
        say("{path} is not deleted: it {why}.", path=path, why=why),
        kind=FailureKind.NOT_WRITABLE,
        advice=say("Look at it, and delete by hand what should go."),
    )
