"""A place, reached by the user's own ssh: scripts are run there, nobody is asked for a password, nothing listens.

An open connection of the user's (ControlMaster) is used, none is made. The script goes as one word of letters and
digits, so that any login shell there hands it on as it is; what is to be sent comes by its input.
"""

import base64
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from qlora_studio import child_process
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.elsewhere.shell import CHANGED, GONE, MARK, Part, part_size, parts
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.network import require_network

Writing = Callable[[IO[bytes]], None]
_SSH = (
    "ssh",
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=10"),
    *("-o", "ServerAliveCountMax=3"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "ControlMaster=no"),
    *("-o", "RemoteCommand=none"),
    *("-o", "LogLevel=ERROR"),
)
_NOT_CONNECTED = 255  # ssh's own exit code
_SECONDS = 90.0
_SLOWEST = 50_000  # bytes a second, of a connection that is still taken to be alive
_FULL = re.compile("no space left|disk quota exceeded", re.IGNORECASE)
_MOST_WORDS = 500
_LONGEST, _PIECE = 1 << 16, 1 << 20


class NotReached(StudioError):
    """A place that was not reached: nothing is known of what happens there."""

    def __init__(self, message: str, advice: str = "", detail: str = "") -> None:
        super().__init__(message, kind=FailureKind.NOT_REACHED, advice=advice, detail=detail)


class Connection:
    """Runs scripts at a place."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def ask(self, script: str, given: bytes = b"", *, login: bool = False, seconds: float = _SECONDS) -> list[Part]:
        """Return the parts of a script's answer; with `login`, as the user's own login finds its programs there.

        Raises NotReached, and StudioError where the folder is not there or has changed.
        """

        def write(stdin: IO[bytes]) -> None:
            stdin.write(given)

        return self.exchange(script, write, login=login, seconds=seconds)

    def fetch(self, script: str, path: Path, size: int) -> None:
        """Write the part that a script answers with, of `size` bytes, to a file. Raises as `ask` does."""
        seconds = _SECONDS + size / _SLOWEST
        with tempfile.TemporaryFile(dir=path.parent) as answer, path.open("wb") as file:
            self._answer(script, _nothing, False, seconds, answer)
            answer.seek(0)
            while (line := answer.readline(_LONGEST)) and line.strip() != MARK.encode():
                pass
            whole = part_size(answer.readline(_LONGEST))
            shutil.copyfileobj(answer, file, _PIECE)
            if file.tell() != whole:
                raise NotReached(say("{place} was not understood: its answer broke off.", place=self.place.name))

    def exchange(self, script: str, write: Writing, *, login: bool = False, seconds: float | None = None) -> list[Part]:
        """Return the parts of the answer to a script whose input `write` writes. Raises as `ask` does."""
        answer = self._answer(script, write, login, seconds)
        try:
            return list(parts(answer))
        except ValueError as error:
            raise NotReached(
                say("{place} was not understood: its answer broke off.", place=self.place.name), detail=str(error)
            ) from error

    def _answer(
        self, script: str, write: Writing, login: bool, seconds: float | None, out: IO[bytes] | None = None
    ) -> bytes:
        """Return what a script printed, or nothing where it is to go `out` to a file."""
        if not self.place.is_here:
            require_network(say("{place} was not reached: the network is switched off here.", place=self.place.name))
        code, answer, words = self._run(script, write, login, seconds, out)
        if code == _NOT_CONNECTED and not self.place.is_here:
            raise _not_connected(self.place, words)
        if code in (GONE, CHANGED):
            raise _refused(self.place, code, words)
        if code and _FULL.search(words):
            raise _full(self.place, words)
        if code:
            raise NotReached(
                say("{place} did not do what it was asked.", place=self.place.name), detail=words[-_MOST_WORDS:]
            )
        return answer

    def _run(
        self, script: str, write: Writing, login: bool, seconds: float | None, out: IO[bytes] | None
    ) -> tuple[int, bytes, str]:
        """Return exit code, stdout and stderr. Raises NotReached where it takes too long, StudioError without ssh."""
        with tempfile.TemporaryFile() as words:  # no pipe: a connection that stays open would keep it open
            try:
                process = child_process.start(
                    _command(self.place, script, login),
                    stdin=subprocess.PIPE,
                    stdout=out or subprocess.PIPE,
                    stderr=words,
                )
            except OSError as error:
                raise _no_program(self.place, error) from error
            with process:
                try:
                    assert process.stdin is not None
                    with suppress(BrokenPipeError):
                        write(process.stdin)
                    with suppress(BrokenPipeError):
                        process.stdin.close()
                    process.stdin = None
                    answer, _ = process.communicate(timeout=seconds)
                except subprocess.TimeoutExpired as error:
                    raise NotReached(say("{place} did not answer in time.", place=self.place.name)) from error
                finally:
                    process.kill()
            words.seek(0)
            return process.returncode, answer or b"", words.read(1 << 16).decode("utf-8", "replace")


def _nothing(stdin: IO[bytes]) -> None:
    """Write nothing to a script that reads nothing."""


def _command(place: Place, script: str, login: bool) -> list[str]:
    """Return the command that runs a script; at this computer itself, where the place is that."""
    if place.is_here:
        return ["bash" if login else "sh", "-c", script]
    word = base64.b64encode(script.encode("utf-8", "surrogateescape")).decode()
    shell = "bash -lc" if login else "sh -c"
    return [*_SSH, "--", place.host, f"exec {shell} 'eval \"$(printf %s {word} | base64 -d)\"'"]


def _not_connected(place: Place, words: str) -> NotReached:
    advice = say("`ssh {host}` in a terminal says more.", host=place.host)
    message = say("{place} was not reached.", place=place.name)
    if "Permission denied" in words or "authentication" in words.lower():
        message = say("{place} lets nobody in without a password or a second factor.", place=place.name)
        advice = say(
            "Nobody is asked for one here. Load your key into ssh-agent, or keep a connection open in a terminal "
            "(ControlMaster in ~/.ssh/config): it is used."
        )
    elif "has changed" in words.lower():
        message = say("{place} has another key than before: somebody else may answer in its place.", place=place.name)
        advice = say(
            "Ask whoever runs it whether that is so. `ssh {host}` in a terminal says what to do then.", host=place.host
        )
    elif "Host key verification failed" in words:
        message = say("The key of {place} is not known here.", place=place.name)
        advice = say("Connect once in a terminal, and compare the key: ssh {host}", host=place.host)
    elif "Could not resolve" in words:
        message = say("No computer is called {host}.", host=place.host)
    return NotReached(message, advice, words.strip()[-_MOST_WORDS:])


def _refused(place: Place, code: int, words: str) -> StudioError:
    if code == GONE:
        message = say("The folder of the run on {place} is not there, or cannot be opened.", place=place.name)
    else:
        message = say("The run's folder on {place} is not as it was left.", place=place.name)
    return StudioError(message, kind=FailureKind.NOT_READABLE, detail=words[-_MOST_WORDS:])


def _full(place: Place, words: str) -> StudioError:
    return StudioError(
        say("The disk of {place} is full, or your share of it.", place=place.name),
        kind=FailureKind.DISK_FULL,
        advice=say("Make room there, or choose another folder for what is sent from now on."),
        detail=words[-_MOST_WORDS:],
    )


def _no_program(place: Place, error: OSError) -> StudioError:
    return StudioError(
        say(
            "{program} cannot be started: {why}.", program="sh" if place.is_here else "ssh", why=error.strerror or error
        ),
        kind=FailureKind.TOOL_MISSING,
        advice=say("Install OpenSSH's client; `ssh` must be found in a terminal."),
    )
