"""What lists say of runs, kept in the cache: a run that is as it was is not read, one that went on is read on.

A line an entry, of a run's newest the last counts; several windows and commands append at once, each by one write. An
entry holds for the very files that it was made from, and a line for its checksum: what is damaged, of another version
or lost is read again from the run itself. Nothing is kept that depends on who lives, or trusts, or on other files.
"""

import os
import threading
import time
import zlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from pydantic import BaseModel, ConfigDict, ValidationError

from qlora_studio import __version__
from qlora_studio.core.bounds import Amount
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.message import PROTOCOL_VERSION
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_bytes, unreadable
from qlora_studio.storage.permissions import private_folder
from qlora_studio.storage.runs.message_log import Bookmark
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.runs.run_summary import RunSummary, summary_of
from qlora_studio.storage.settings import cache_path

_FORMAT = 3  # to be raised where the same events come to another summary than before
_MADE_BY = f"{_FORMAT} {PROTOCOL_VERSION} {__version__}"
_LARGEST = 64 << 20  # bytes of the index
_LONGEST = 1 << 16  # bytes of an entry that is kept
_SETTLED = 2_000_000_000  # nanoseconds after which another change of a file has surely another time
_MUCH = 1 << 18  # bytes of events that are worth an entry while the run goes on
_SPARE_LINES = 64
_NO_FILE, _NO_REGULAR_FILE = (0, -1, 0, 0), (0, -2, 0, 0)

_Stamp = tuple[int, int, int, int]  # of a file: its number, size, and the times of its last writing and last change


class _Entry(BaseModel):
    """A run as it was at a moment (`looked`, nanoseconds), when its files had these stamps."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    made_by: str
    path: str
    looked: Amount
    config: _Stamp
    events: _Stamp
    bookmark: Bookmark
    summary: RunSummary

    def is_of(self, config: _Stamp, events: _Stamp) -> bool:
        """Whether these are the files that it was made from, as they were."""
        return (self.config, self.events) == (config, events) and self.is_settled

    @property
    def is_settled(self) -> bool:
        """Whether a change after the look would show: times of files go in steps."""
        stamps = (self.config, self.events)
        return _NO_REGULAR_FILE not in stamps and max(stamp[2] for stamp in stamps) + _SETTLED < self.looked

    def to_line(self) -> bytes:
        """Return the line of the index that says it."""
        text = self.model_dump_json().encode()
        return b"%08x %s\n" % (zlib.crc32(text), text)


class RunIndex:
    """The index, read once and kept up to date here; threads may ask at once."""

    def __init__(self) -> None:
        self._path = cache_path() / "runs.jsonl"
        self._entries: dict[str, _Entry] = {}
        self._written: dict[str, _Entry] = {}  # those that the file has
        self._lines = -1  # of the file; it is read when it is first asked for
        self._lock = threading.Lock()

    def listed(self, runs: Path) -> list[tuple[RunFolder, RunSummary | StudioError]]:
        """Return the runs in a folder, newest first, each with what is known of it or why it cannot be read.

        Raises StudioError where the folder cannot be read.
        """
        folders = run_folders(runs)
        with self._lock:
            if self._lines < 0:
                self._written, self._lines = self._read_file()
                self._entries = dict(self._written)
            found = [(folder, self._known(folder)) for folder in folders]
            self._keep(self._gone(runs, folders))
        return found

    def _known(self, folder: RunFolder) -> RunSummary | StudioError:
        place = str(folder.path.absolute())
        now, config, events = time.time_ns(), _stamp(folder.config_path), _stamp(folder.events_path)
        entry = self._entries.get(place)
        if entry is not None and entry.is_of(config, events):
            return entry.summary
        try:
            summary, mark = _read_on(folder, entry)
        except StudioError as error:
            return error
        except OSError as error:
            return unreadable(folder.path, error.strerror or str(error))
        if mark is not None and _is_text(place):
            self._entries[place] = _Entry.model_construct(
                made_by=_MADE_BY, path=place, looked=now, config=config, events=events, bookmark=mark, summary=summary
            )
        return summary

    def _gone(self, runs: Path, folders: Iterable[RunFolder]) -> set[str]:
        """Return the places in a folder where no run is any more. A folder that is away keeps its own."""
        if not runs.is_dir():
            return set()
        parent = f"{runs.absolute()}{os.sep}"
        there = {str(folder.path.absolute()) for folder in folders}
        within = {place for place in self._entries | self._written if place.startswith(parent)}
        return {place for place in within - there if os.sep not in place.removeprefix(parent)}

    def _keep(self, gone: set[str]) -> None:
        """Write down what is new. What cannot be written is read from the runs again by the next who asks."""
        for place in gone:
            self._entries.pop(place, None)
        new = [entry for place, entry in self._entries.items() if _is_worth(entry, self._written.get(place))]
        lines = {entry.path: line for entry in new if len(line := entry.to_line()) <= _LONGEST}
        with suppress(OSError, StudioError):
            if lines:
                self._append(lines.values())
                self._written |= {place: self._entries[place] for place in lines}
            if gone & self._written.keys() or self._lines > 2 * len(self._written) + _SPARE_LINES:
                self._write_anew(gone)

    def _append(self, lines: Collection[bytes]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        private_folder(self._path.parent)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, b"".join([b"\n", *lines]))  # a line that was torn before ends here
        finally:
            os.close(descriptor)
        self._lines += len(lines)

    def _write_anew(self, gone: set[str]) -> None:
        """Replace the file by one without what is old or gone; what others wrote meanwhile is kept, too."""
        found, _ = self._read_file()
        kept = (found | self._written).items()
        self._written = {place: entry for place, entry in kept if place not in gone and os.path.lexists(place)}
        self._lines = len(self._written)
        write_atomically(self._path, b"".join(entry.to_line() for entry in self._written.values()))

    def _read_file(self) -> tuple[dict[str, _Entry], int]:
        """Return the entries of the file by the places of their runs, and how many lines it has."""
        try:
            lines = read_bytes(self._path, limit=_LARGEST, inside=self._path.parent).splitlines()
        except FileNotFoundError:
            return {}, 0
        except StudioError:
            with suppress(OSError):
                self._path.unlink()
            return {}, 0
        entries = (entry for line in lines if (entry := _entry(line)))
        return {entry.path: entry for entry in entries}, len(lines)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.lstat()
    except OSError:
        return _NO_FILE
    if not S_ISREG(found.st_mode):
        return _NO_REGULAR_FILE
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_text(place: str) -> bool:
    """Whether a path can be written as text: on Linux a name is any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in place)


def _entry(line: bytes) -> _Entry | None:
    """Return what a line says; nothing where it is not as it was written, or of another version."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        entry = _Entry.model_validate_json(text)
    except ValidationError:
        return None
    return entry if entry.made_by == _MADE_BY else None


def _is_worth(entry: _Entry, written: _Entry | None) -> bool:
    """Whether an entry is to be written: what changes from moment to moment is, now and then."""
    if entry is written:
        return False
    return entry.is_settled or entry.bookmark.offset - (written.bookmark.offset if written else 0) >= _MUCH


def _read_on(folder: RunFolder, entry: _Entry | None) -> tuple[RunSummary, Bookmark | None]:
    """Return what a run says now and how far it was read: on from an entry, where the events still begin like that.

    Raises StudioError, OSError.
    """
    config, log, state = folder.config(), folder.event_log(), RunState()
    if entry is not None and log.go_to(entry.bookmark):
        state = entry.summary.as_state()
    try:
        state = fold(state, log.all())
    except StudioError as error:
        if entry is None or error.kind is not FailureKind.DAMAGED:
            raise
        return _read_on(folder, None)  # the events were replaced just now
    return summary_of(config, state, log.damage), log.bookmark()
