"""A place, reached by the user's own ssh: scripts are run there, nobody is asked for a password, nothing listens.

An open connection of the user's (ControlMaster) is used, none is made. The script goes as one word of letters and
digits, so that any login shell there hands it on as it is; what is to be sent comes by its input.
"""

import base64
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.elsewhere.shell import CHANGED, GONE, MARK, Part, part_size, parts
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere import far_command
from qlora_studio.jobs.elsewhere.far_command import Outcome
from qlora_studio.storage.network import require_network

IDLE_SECONDS = 90.0  # in which a byte must go or come
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
_FULL = re.compile("no space left|disk quota exceeded", re.IGNORECASE)
_MOST_WORDS = 500
_LONGEST, _PIECE = 1 << 16, 1 << 20


class NotReached(StudioError):
    """A place that was not reached: nothing is known of what happens there."""

    def __init__(self, message: str, advice: str = "", detail: str = "") -> None:
        super().__init__(message, kind=FailureKind.NOT_REACHED, advice=advice, detail=detail)


class Stopped(StudioError):
    """Whoever asked a place something wanted no answer any more; it may have done what it was asked."""

    def __init__(self, place: Place, message: str = "") -> None:
        message = message or say("{place} is asked nothing more.", place=place.name)
        super().__init__(message, kind=FailureKind.INTERRUPTED)


_LOCK = threading.Lock()
_OPEN: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection:
    """Runs scripts at a place. Each is given up once `stop` is set, and once nothing has gone or come for a while.

    One that is lasting does not end with this process's work: whoever made it gives it up.
    """

    def __init__(self, place: Place, stop: threading.Event | None = None, *, is_lasting: bool = False) -> None:
        self.place, self._stop = place, stop or threading.Event()
        if not is_lasting:
            with _LOCK:
                _OPEN.add(self)

    @property
    def is_given_up(self) -> bool:
        """Whether nothing more is to be asked."""
        return self._stop.is_set()

    def require_wanted(self) -> None:
        """Raise Stopped where nothing more is to be asked."""
        if self.is_given_up:
            raise Stopped(self.place)

    def give_up(self) -> None:
        """Ask nothing more, and wait for nothing."""
        self._stop.set()

    def ask(
        self, script: str, given: Iterable[bytes] = (), *, login: bool = False, idle_seconds: float = IDLE_SECONDS
    ) -> list[Part]:
        """Return the parts of a script's answer; with `login`, as the user's own login finds its programs there.

        `given` is the script's input, in pieces. Raises NotReached, Stopped, and StudioError where the folder is not
        there or has changed.
        """
        answer = self._answer(script, given, login, idle_seconds)
        try:
            return list(parts(answer))
        except ValueError as error:
            raise NotReached(
                say("{place} was not understood: its answer broke off.", place=self.place.name), detail=str(error)
            ) from error

    def fetch(self, script: str, path: Path) -> None:
        """Write the part that a script answers with to a file. Raises as `ask` does."""
        with tempfile.TemporaryFile(dir=path.parent) as answer, path.open("wb") as file:
            self._answer(script, (), False, IDLE_SECONDS, answer)
            answer.seek(0)
            while (line := answer.readline(_LONGEST)) and line.strip() != MARK.encode():
                pass
            whole = part_size(answer.readline(_LONGEST))
            shutil.copyfileobj(answer, file, _PIECE)
            if file.tell() != whole:
                raise NotReached(say("{place} was not understood: its answer broke off.", place=self.place.name))

    def _answer(
        self, script: str, given: Iterable[bytes], login: bool, idle_seconds: float, out: IO[bytes] | None = None
    ) -> bytes:
        """Return what a script printed, or nothing where it is to go `out` to a file."""
        if not self.place.is_here:
            require_network(say("{place} was not reached: the network is switched off here.", place=self.place.name))
        found = self._run(script, given, login, idle_seconds, out)
        if found.code == _NOT_CONNECTED and not self.place.is_here:
            raise _not_connected(self.place, found.words)
        if found.code in (GONE, CHANGED):
            raise _refused(self.place, found.code, found.words)
        if found.code and _FULL.search(found.words):
            raise _full(self.place, found.words)
        if found.code:
            raise NotReached(
                say("{place} did not do what it was asked.", place=self.place.name), detail=found.words[-_MOST_WORDS:]
            )
        return found.answer

    def _run(
        self, script: str, given: Iterable[bytes], login: bool, idle_seconds: float, out: IO[bytes] | None
    ) -> Outcome:
        """Return how a script ended. Raises NotReached where it hangs, Stopped, StudioError without ssh."""
        command = _command(self.place, script, login)
        try:
            return far_command.run(command, given, idle_seconds=idle_seconds, out=out, stop=self._stop)
        except far_command.NotStarted as error:
            raise _no_program(self.place, str(error)) from error
        except far_command.Stalled as error:
            raise _stalled(self.place, idle_seconds) from error
        except far_command.Stopped as error:
            raise Stopped(self.place) from error


def give_up_all() -> None:
    """Have everything given up that is asked of any place now: this process is about to end."""
    with _LOCK:
        asking = [*_OPEN]
    for connection in asking:
        connection.give_up()


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


def _stalled(place: Place, idle_seconds: float) -> NotReached:
    seconds = round(idle_seconds)
    return NotReached(
        say(
            "{place} hangs: nothing went there or came from there for {seconds} seconds.",
            place=place.name,
            seconds=seconds,
        ),
        say("Its file system may be stuck, or the way there. `ls {folder}` there says more.", folder=place.folder),
    )


def _no_program(place: Place, why: str) -> StudioError:
    return StudioError(
        say("{program} cannot be started: {why}.", program="sh" if place.is_here else "ssh", why=why),
        kind=FailureKind.TOOL_MISSING,
        advice=say("Install OpenSSH's client; `ssh` must be found in a terminal."),
    )
