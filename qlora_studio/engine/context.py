"""What a job has to work with: its folder, a way to tell facts, and the commands that arrive meanwhile."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate, Stop, parse_command
from qlora_studio.core.run.events import (
    AdapterSaved,
    ChangeAccepted,
    CheckpointSaved,
    Event,
    Exported,
    Failed,
    Finished,
    Paused,
    PhaseChanged,
    Progressed,
    RateLowered,
    StoppedEarly,
    Warned,
)
from qlora_studio.core.words import say
from qlora_studio.storage.runs.message_log import MessageLogReader, MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

_PROGRESS_INTERVAL = 0.1  # seconds between two Progressed of the same thing
_SYNCED = CheckpointSaved, AdapterSaved, Exported, StoppedEarly, RateLowered, ChangeAccepted, Paused, Finished, Failed


class JobStopped(Exception):
    """The user asked the job to end; `save` as in the Stop command."""

    def __init__(self, save: bool = False) -> None:
        super().__init__("stopped by the user")
        self.save = save


class Reporter(Protocol):
    """Where facts are told. What asks for this writes no folder and obeys no command."""

    def emit(self, event: Event) -> None:
        """Tell an event."""

    def phase(self, activity: Activity) -> None:
        """Tell what the worker turns to now."""

    def progress(self, what: str, done: int, total: int, unit: str = "") -> None:
        """Tell how far something is, as often as one likes."""

    def warn(self, kind: str, message: str) -> None:
        """Tell the user something that stops nothing."""


class Commands(Protocol):
    """What the user asks meanwhile."""

    def commands(self) -> list[Command]:
        """Return the commands that came since the last call."""

    def stop_requested(self) -> bool:
        """Whether a Stop has come, by the last look."""

    def raise_if_stopped(self) -> None:
        """Raise JobStopped where the user asked for the end."""


class Channel(Reporter, Commands, Protocol):
    """Both ways: for long work that tells how far it is and can be stopped."""


class QuietReporter:
    """Tells nobody, and is never asked to stop."""

    def emit(self, event: Event) -> None:
        """Tell nobody."""

    def phase(self, activity: Activity) -> None:
        """Tell nobody."""

    def progress(self, what: str, done: int, total: int, unit: str = "") -> None:
        """Tell nobody."""

    def warn(self, kind: str, message: str) -> None:
        """Tell nobody."""

    def commands(self) -> list[Command]:
        """Return nothing."""
        return []

    def stop_requested(self) -> bool:
        """No."""
        return False

    def raise_if_stopped(self) -> None:
        """Go on."""


QUIET = QuietReporter()


class JobContext:
    """A job's view of its folder. One thread only."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._events = MessageLogWriter(folder.events_path)
        self._commands = _commands(folder, _commands_from(folder))
        self._told = ""  # of the commands that could not be read
        self._waiting: list[Command] = []
        self._stop: Stop | None = None
        self._parent = os.getppid()
        self._ends_with_starter = False
        self._last_progress = ("", 0.0)

    def emit(self, event: Event) -> None:
        """Append an event; what tells of work that is done, or of a wish that later sessions keep to, is synced."""
        self._events.append(event, sync=isinstance(event, _SYNCED))

    def phase(self, activity: Activity) -> None:
        """Tell what the worker turns to now."""
        self.emit(PhaseChanged(phase=activity))

    def progress(self, what: str, done: int, total: int, unit: str = "") -> None:
        """Tell how far something is; too frequent calls are dropped, first and last never."""
        now = time.monotonic()
        name, last = self._last_progress
        if name == what and 0 < done < total and now - last < _PROGRESS_INTERVAL:
            return
        self._last_progress = (what, now)
        self.emit(Progressed(what=what, done=done, total=total, unit=unit))

    def warn(self, kind: str, message: str) -> None:
        """Tell the user something that stops nothing."""
        self.emit(Warned(kind=kind, message=message))

    def commands(self) -> list[Command]:
        """Return the commands that came since the last call; a Stop is remembered."""
        self._read_commands()
        found, self._waiting = self._waiting, []
        return found

    def initial_commands(self) -> Sequence[Command]:
        """Return on which terms the user lets a run go on; other commands stay for `commands`."""
        self._read_commands()
        found = [command for command in self._waiting if isinstance(command, LowerRate | AcceptChanges)]
        self._waiting = [command for command in self._waiting if command not in found]
        return found

    def _read_commands(self) -> None:
        for command in self._new_commands():
            self._waiting.append(command)
            self._stop = command if isinstance(command, Stop) else self._stop

    def _new_commands(self) -> list[Command]:
        """Return what was asked. What cannot be read is told, once, and never ends the work."""
        try:
            found, damage = self._commands.new(), self._commands.damage
        except StudioError as error:
            self._commands = _commands(self.folder, _size_of(self.folder.commands_path))
            found, damage = [], f"{error.message} What is asked from now on is read."
        if damage and damage != self._told:
            self.warn("unreadable_commands", damage)
        self._told = damage
        return found

    def stop_requested(self) -> bool:
        """Whether a Stop has come, by the last look at the commands."""
        return self._stop is not None or (self._ends_with_starter and self.is_orphaned())

    def end_with_starter(self) -> None:
        """Take it for a Stop from now on that whoever started this worker is gone."""
        self._ends_with_starter = True

    def is_orphaned(self) -> bool:
        """Whether whoever started this worker is gone: a run goes on then, a chat has nobody to talk to."""
        return os.getppid() != self._parent or not psutil.pid_exists(self._parent)

    def raise_if_stopped(self) -> None:
        """Raise JobStopped where the user asked for the end; other commands that came stay for `commands`."""
        self._read_commands()
        if self.stop_requested():
            raise JobStopped(self._stop is not None and self._stop.save)

    def raise_if_gone(self) -> None:
        """Raise StudioError where the folder was removed or moved: what is written there would be found by nobody."""
        if not self._events.is_in_place():
            raise StudioError(
                say("The folder {path} was removed or moved while its run was at work.", path=self.folder.path),
                kind=FailureKind.RUN_NOT_FOUND,
                advice=say("Put it back where it was, then resume; or begin a new run."),
            )

    def close(self) -> None:
        """Close the event log."""
        self._events.close()


class RankContext(JobContext):
    """What another rank than the first has of a run: it reads the folder, tells nobody, and obeys the first."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._stop = None
        self._ends_with_starter = False
        self._last_progress = ("", 0.0)

    def emit(self, event: Event) -> None:
        """Tell nobody: the first rank does."""

    def commands(self) -> list[Command]:
        """Return nothing: the first rank reads them."""
        return []

    def raise_if_stopped(self) -> None:
        """Go on: the first rank ends this process."""

    def raise_if_gone(self) -> None:
        """Go on: the first rank sees that."""


def _commands(folder: RunFolder, offset: int) -> MessageLogReader[Command]:
    return MessageLogReader(folder.commands_path, parse_command, offset=offset)


def _commands_from(folder: RunFolder) -> int:
    """Return where the commands for this worker begin: after those of an earlier session, which it must not obey."""
    if folder.job_path.exists():  # a job has one session, and what is asked before its worker starts counts
        return 0
    told = os.environ.get("QLORA_STUDIO_COMMANDS_FROM", "")
    if told.isdigit():
        return int(told)
    return _size_of(folder.commands_path)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
