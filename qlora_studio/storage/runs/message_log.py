"""An append-only file of one JSON object a line: how events leave a worker and how commands reach it."""

import codecs
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from qlora_studio.core.bounds import Amount
from qlora_studio.core.errors import FULL_DISK, FailureKind, StudioError
from qlora_studio.core.run.message import DamagedLine, Message
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import open_regular
from qlora_studio.storage.permissions import mode_of_file, private_folder
from qlora_studio.storage.runs.own_files import require_own_file
from qlora_studio.storage.syncing import sync_folder

M = TypeVar("M")
_CHUNK = 1 << 16  # bytes of one read: what comes of many more at once no longer lies near the processor
_LONGEST = 1 << 24  # bytes of a line
_MOST_VALUES = 150_000  # of a line: a few bytes of it can be many objects
_TAIL = 32  # bytes that are read again, to know the file by
_TOO_LONG = b"{"  # what is kept of such a line
_LONGEST_REST = 1 << 14  # bytes of a half line that a bookmark keeps
_NOTHING = b"\0 \t\r\n"  # around a line; a power cut can leave zeros before the next one


class MessageLogWriter:
    """Appends messages. Each line is one write to an O_APPEND descriptor, so that lines of two writers never mix.

    On a full disk nothing is lost: what could not be written is kept and goes first at the next append.
    """

    def __init__(self, path: Path) -> None:
        private_folder(path.parent)
        require_own_file(path)
        end_torn_line(path)
        self._path = path
        self._pending = b""
        is_new = not path.exists()
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), mode_of_file(path)
        )
        if is_new:
            sync_folder(path.parent)

    def is_in_place(self) -> bool:
        """Whether the file that is written to still has its name: its folder was not removed or moved.

        Only its name is asked for. Numbers of files change on some network drives while nothing has happened.
        """
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a drive that hesitates
            return True
        return True

    def append(self, message: Message, *, sync: bool = False) -> None:
        """Write one line; with `sync`, return only when it is on the disk."""
        self._pending += message.to_line().encode()
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._descriptor, self._pending) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> "MessageLogWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bookmark(BaseModel):
    """How far a log was read, so that another process goes on from there. `checksum` (CRC 32) is of all that was read.

    `rest` is the half line at the end, a letter for each byte; `in_session` is of events alone.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    offset: Amount
    checksum: Amount
    rest: str
    line: Amount
    damaged: Amount
    first_damaged: Amount
    in_session: bool = False


class MessageLogReader(Generic[M]):
    """Reads messages of complete lines as they come. A half line is kept until its newline arrives.

    A line that is damaged, or longer than any that is written, is passed over and counted; the others are read.
    Where not `bounded`, lines are as long as they come: those of a job that this program has just made itself.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], M | None], *, offset: int = 0, bounded: bool = True
    ) -> None:
        self._path, self._parse, self._bounded = path, parse, bounded
        self._offset, self._from_start = offset, offset == 0
        self._rest, self._tail, self._checksum = bytearray(), b"", 0
        self._too_long = False  # the half line
        self._line, self._damaged, self._first_damaged = 0, 0, 0

    @property
    def position(self) -> int:
        """How far the file was read, in bytes; a half line counts."""
        return self._offset

    @property
    def damage(self) -> str:
        """What could not be read so far, in a sentence; empty where everything was."""
        if not self._damaged:
            return ""
        lines = "1 line" if self._damaged == 1 else f"{self._damaged:,} lines"
        where = f"line {self._first_damaged:,}" if self._damaged == 1 else f"the first at line {self._first_damaged:,}"
        return f"{lines} of {self._path.name} could not be read{f', {where}' if self._from_start else ''}."

    def bookmark(self) -> Bookmark | None:
        """Return how far it was read; None where that cannot be said shortly."""
        if not self._from_start or self._too_long or len(self._rest) > _LONGEST_REST:
            return None
        return Bookmark(
            offset=self._offset,
            checksum=self._checksum,
            rest=self._rest.decode("latin-1"),
            line=self._line,
            damaged=self._damaged,
            first_damaged=self._first_damaged,
        )

    def go_to(self, mark: Bookmark) -> bool:
        """Go on from a bookmark where the file still begins with what was read then; else stay, and return False.

        Raises StudioError where the file cannot be read.
        """
        checksum, left, tail = 0, mark.offset, b""
        with suppress(FileNotFoundError), os.fdopen(open_regular(self._path, inside=self._path.parent), "rb") as file:
            while data := file.read(min(left, _CHUNK)):
                checksum, left, tail = zlib.crc32(data, checksum), left - len(data), (tail + data)[-_TAIL:]
        if left or checksum != mark.checksum:
            return False
        self._offset, self._checksum, self._tail = mark.offset, checksum, tail
        self._rest = bytearray(mark.rest.encode("latin-1", "replace"))
        self._line, self._damaged, self._first_damaged = mark.line, mark.damaged, mark.first_damaged
        return True

    def new(self, limit: int = _CHUNK) -> list[M]:
        """Return the messages of the lines that were completed since the last call, reading at most `limit` bytes.

        Those of kinds that are not known are passed over. Raises StudioError where the file cannot be read, or is not
        the one any more that was read before, and what `parse` raises besides DamagedLine.
        """
        return list(self._read(limit))

    def all(self) -> Iterator[M]:
        """Yield the messages of all that is in the file now and was not read yet, as `new` does."""
        position = -1
        while position != self._offset:
            position = self._offset
            yield from self._read(_CHUNK)

    def _read(self, limit: int) -> Iterator[M]:
        parse = self._parse
        for line in self._new_lines(limit):
            self._line += 1
            try:
                message = parse(line) if len(line) <= _MOST_VALUES else self._long(line)
            except DamagedLine:
                message = self._without_marks(line)
            if message is not None:
                yield message

    def _long(self, line: bytes) -> M | None:
        if self._bounded and line.count(b",") + line.count(b"[") + line.count(b"{") > _MOST_VALUES:
            raise DamagedLine
        return self._parse(line)

    def _without_marks(self, line: bytes) -> M | None:
        """Return the message of a line between zeros, or behind a mark of byte order; an empty line is no damage."""
        told = line.removeprefix(codecs.BOM_UTF8).strip(_NOTHING)
        if not told:
            return None
        if told != line:
            with suppress(DamagedLine):
                return self._long(told)
        self._damaged += 1
        self._first_damaged = self._first_damaged or self._line
        return None

    def _new_lines(self, limit: int) -> list[bytes]:
        """Return the lines that are complete now. Of one that is too long no more is kept than that it is damaged."""
        if self._is_at_the_end():
            return []
        try:
            with os.fdopen(open_regular(self._path, inside=self._path.parent), "rb") as file:
                data = self._read_on(file, limit)
        except FileNotFoundError:
            return []
        self._offset, self._checksum = self._offset + len(data), zlib.crc32(data, self._checksum)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0], self._rest = bytes(self._rest + lines[0]), bytearray()
        self._rest += rest
        if lines and self._too_long:
            lines[0], self._too_long = _TOO_LONG, False
        if self._too_long or (self._bounded and len(self._rest) > _LONGEST):
            self._rest, self._too_long = bytearray(), True
        return lines

    def _is_at_the_end(self) -> bool:
        """Whether nothing came since the last look: whoever follows a run looks many times a second."""
        with suppress(OSError):
            return self._offset > 0 and self._path.stat().st_size == self._offset
        return False

    def _read_on(self, file: BinaryIO, limit: int) -> bytes:
        """Return the bytes behind those that were read before, which must be there as they were."""
        file.seek(self._offset - len(self._tail))
        found = file.read(len(self._tail) + limit)
        if not found.startswith(self._tail) or os.fstat(file.fileno()).st_size < self._offset:
            raise StudioError(
                say("{name} was replaced or cut short while it was read.", name=self._path.name),
                kind=FailureKind.DAMAGED,
                advice=say("Open it again to see what it says now."),
                detail=str(self._path),
            )
        data = found[len(self._tail) :]
        self._tail = found[-_TAIL:]
        return data


def end_torn_line(path: Path) -> None:
    """End a half-written last line, left by a killed writer: readers skip it, the next line is whole."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
