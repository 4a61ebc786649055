"""A command whose other end may hang: it is ended as soon as that is asked, and when no byte has moved for a while.

Its input is written and its answer read in threads, so nobody waits for a pipe that is full or silent; it has a session
of its own, so that it ends with all that it started, and Ctrl-C in a terminal is not heard by it but by whoever asked.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from qlora_studio import child_process

_SLICE_SECONDS = 0.1
_ENDING_SECONDS = 2.0  # for what was killed to be gone; what hangs in a file system is left behind
_LEFT_OPEN_SECONDS = 5.0  # for an answer of which something that stays behind keeps the pipe open
_WRITTEN_OUT = 10 << 20  # bytes a second at which a disk is taken to write what it was sent
_PIECE, _MOST_WORDS = 1 << 16, 1 << 16


class NotStarted(Exception):
    """There is no such program, or it cannot be started; says why."""


class Stalled(Exception):
    """No byte went or came for as long as was waited."""


class Stopped(Exception):
    """Whoever asked wants no answer any more."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, what it printed, unless that went to a file, and what it said to stderr."""

    code: int
    answer: bytes
    words: str


def run(
    command: list[str],
    given: Iterable[bytes] = (),
    *,
    idle_seconds: float,
    out: IO[bytes] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run a command with `given` as its input; what it prints goes `out` to a file, where one is named.

    Raises NotStarted, Stalled, Stopped, and what reading `given` or writing `out` raises.
    """
    stop = stop or threading.Event()
    if stop.is_set():
        raise Stopped
    with tempfile.TemporaryFile() as words:  # no pipe: a connection that stays open would keep it open
        process = _start(command, words)
        answer = BytesIO()
        try:
            _Flow(process, given, out or answer).wait(idle_seconds, stop)
        finally:
            _end(process)
        words.seek(0)
        return Outcome(process.returncode, answer.getvalue(), words.read(_MOST_WORDS).decode("utf-8", "replace"))


def _start(command: list[str], words: IO[bytes]) -> "subprocess.Popen[bytes]":
    pipe, own_session = subprocess.PIPE, sys.platform != "win32"
    try:
        return child_process.start(command, stdin=pipe, stdout=pipe, stderr=words, start_new_session=own_session)
    except OSError as error:
        raise NotStarted(error.strerror or str(error)) from error


class _Flow:
    """What goes to a process and comes from it."""

    def __init__(self, process: "subprocess.Popen[bytes]", given: Iterable[bytes], out: IO[bytes]) -> None:
        self._process, self._out = process, out
        self._given_bytes, self._came_bytes, self._is_taking = 0, 0, False
        self._failure: Exception | None = None
        self._all_given, self._all_came = threading.Event(), threading.Event()
        for work in ((self._give, given), (self._take,)):
            threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def wait(self, idle_seconds: float, stop: threading.Event) -> None:
        """Return once the process has ended and all that it printed is here. Raises as `run` does."""
        moved, since, ended_at = (0, 0), time.monotonic(), 0.0
        while True:
            if self._failure is not None:
                raise self._failure
            if stop.is_set():
                raise Stopped
            if self._all_came.wait(_SLICE_SECONDS):
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_SLICE_SECONDS)
            if moved != (moved := (self._given_bytes, self._came_bytes)):
                since = time.monotonic()
            now = time.monotonic()
            if not ended_at and self._process.poll() is not None:
                ended_at = now
            if ended_at and self._failure is None and (self._all_came.is_set() or self._is_left_open(since, ended_at)):
                return
            idle = now - since
            if idle > idle_seconds + (self._given_bytes / _WRITTEN_OUT if self._all_given.is_set() else 0):
                raise Stalled

    def _is_left_open(self, moved_at: float, ended_at: float) -> bool:
        """Whether all has long been here of a process that has ended: the silence before its end says nothing."""
        return not self._is_taking and time.monotonic() - max(moved_at, ended_at) > _LEFT_OPEN_SECONDS

    def _give(self, given: Iterable[bytes]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            for piece in given:
                try:
                    stdin.write(piece)
                    stdin.flush()
                except OSError:  # it has ended, or was
                    break
                self._given_bytes += len(piece)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is raised where this is waited for
            self._failure = error
        self._all_given.set()
        with suppress(OSError):
            stdin.close()

    def _take(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            with stdout:
                while piece := os.read(stdout.fileno(), _PIECE):
                    self._is_taking = True  # until it is written, however long that takes
                    self._came_bytes += len(piece)
                    self._out.write(piece)
                    self._is_taking = False
        except Exception as error:  # noqa: BLE001 - no room for it here; or nobody waits for it any more
            self._failure = error
        self._all_came.set()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that has not ended, with what it started. One that hangs in the system is left until that ends."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, daemon=True).start()
