"""Starts the mirror of a run that is elsewhere: a process of its own, which the window leaves behind when it closes."""

import subprocess
import sys

from qlora_studio import child_process
from qlora_studio.core.errors import StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.network import is_offline
from qlora_studio.storage.permissions import private_folder
from qlora_studio.storage.places import place_named
from qlora_studio.storage.runs.elsewhere_record import FOLDER, read_record, read_told, write_told
from qlora_studio.storage.runs.own_files import opened_log
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import require_startable


def require_mirror(folder: RunFolder) -> None:
    """Have a mirror at work where a run is open elsewhere. Raises StudioError."""
    if (popen := start_mirror(folder)) is not None:
        popen.returncode = 0  # else Python warns of a child that nobody waited for


def start_mirror(folder: RunFolder) -> "subprocess.Popen[bytes] | None":
    """Start a mirror where a run is open elsewhere and none is at work; return it. Raises StudioError.

    None is started where the network is switched off, or the place was forgotten: that is told then, and nothing is
    concluded of the run.
    """
    record = read_record(folder.path)
    if record is None or not record.open or folder.is_locked():
        return None
    require_startable(folder)
    if problem := _what_keeps_from(record.place):
        _tell(folder, problem)
        return None
    with opened_log(private_folder(folder.path / FOLDER) / "mirror.log") as log:
        return child_process.start(
            [*child_process.python("-m", "qlora_studio", "mirror"), str(folder.path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=sys.platform != "win32",
            creationflags=_creation_flags(),
        )


def _creation_flags() -> int:
    """On Windows: a group of its own and no console."""
    if sys.platform != "win32":
        return 0
    return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS


def _what_keeps_from(name: str) -> str:
    """Return why a place cannot be asked from here; nothing where it can."""
    try:
        place = place_named(name)
    except StudioError as error:
        return f"{error.message} {error.advice}".strip()
    if is_offline() and not place.is_here:
        return say("The network is switched off here: nothing is known of the run since then.")
    return ""


def _tell(folder: RunFolder, problem: str) -> None:
    told = read_told(folder.path)
    if told is not None:
        since = told.unreached_since or told.time
        try:
            write_told(folder.path, told.model_copy(update={"problem": problem, "unreached_since": since}))
        except StudioError:  # a full disk: the run goes on there all the same
            return
