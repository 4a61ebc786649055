"""An append-only file of one JSON object a line: how events leave a worker and how commands reach it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from qlora_studio.core.run.message import Message
from qlora_studio.storage.permissions import mode_of_file, private_folder
from qlora_studio.storage.runs.own_files import require_own_file


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
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), mode_of_file(path)
        )

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
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        if sync:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> "MessageLogWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MessageLogReader:
    """Reads complete lines as they come. A half line is kept until its newline arrives."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        self._rest = b""

    @property
    def position(self) -> int:
        """How far the file was read, in bytes; a half line counts."""
        return self._offset

    def new_lines(self, limit: int = 1 << 24) -> Iterator[bytes]:
        """Yield the lines that were completed since the last call, reading at most `limit` bytes."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(limit)
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from (line for line in lines if line.strip())


def end_torn_line(path: Path) -> None:
    """End a half-written last line, left by a killed writer: readers skip it, the next line is whole."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
