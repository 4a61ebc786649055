"""What Ctrl-C, a hangup and a request to end do to a command, from its first moment to its last.

Until a command begins there is nothing to tidy up: it leaves at once. From then on the first signal raises
KeyboardInterrupt, and `sentence` is what is true of the work at that moment. A short section that must not be left
half done is `held`. Whoever follows a worker takes the signals: they do not arrive in the session that it has of its
own. A second signal ends everything at once, by `os._exit`: anything may be half done in this process then.

Imported before all else, so it imports next to nothing.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import threading

NOTHING_BEGUN = "Nothing was begun."
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last is Windows' Ctrl-Break
_FIRST_OF_ENDING = 128  # an exit code of a shell: with the signal's number added


class Interruption:
    """The signals that came so far, and what the next one does."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.count = 0
        self.sentence = NOTHING_BEGUN
        self._json = "--json" in arguments
        self._number = int(signal.SIGINT)
        self._held = 0
        self._raises = False
        self._leaving = False
        self._taker: Callable[[int], None] | None = None
        self._guarded: list[signal.Signals] = []

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 where it was asked to end, 129 where the terminal is gone."""
        number = self._number if self._number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) else signal.SIGINT
        return _FIRST_OF_ENDING + int(number)

    @property
    def is_hangup(self) -> bool:
        """Whether the terminal is gone."""
        return self._number == getattr(signal, "SIGHUP", None)

    def guard(self) -> None:
        """Answer the signals from now on; what `nohup` or a shell's `&` ignores stays ignored."""
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._guarded.append(number)
                signal.signal(number, self._arrive)

    def unguard(self) -> None:
        """Let the signals end this process by themselves: a window has no sentence to print."""
        for number in self._guarded:
            signal.signal(number, signal.SIG_DFL)

    def begin(self) -> None:
        """Let the first signal raise KeyboardInterrupt from now on."""
        self._raises = True

    def raise_if_any(self) -> None:
        """Raise KeyboardInterrupt where a signal came that a held section kept back."""
        if self.count:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep signals back until the end of a short section; a third one is not kept back."""
        before = self.count
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if not self._held and self.count > before:
            self._act()

    @contextmanager
    def stopping(self) -> "Iterator[threading.Event]":
        """Have the first signal set an event, by which what goes on in here stops and tidies up."""
        import threading

        stop = threading.Event()
        self.take(lambda count: stop.set() if count == 1 else self.leave())
        try:
            yield stop
        finally:
            self.take(None)

    def take(self, taker: Callable[[int], None] | None) -> None:
        """Let `taker` answer, by how many signals came; None gives that back. It is called in the midst of anything."""
        self._taker = taker

    def leave(self, code: int | None = None) -> NoReturn:
        """Say how it stands, and end this process at once."""
        if not self._leaving:
            self._leaving = True
            write_at_once(f"Interrupted. {self.sentence}")
            if self._json:
                _write_error(self.sentence)
        os._exit(self.exit_code if code is None else code)

    def be_over(self, code: int) -> None:
        """The work is done and told: a signal ends what is left of the process, with the same code."""
        for number in self._guarded:
            signal.signal(number, lambda *_: os._exit(code))

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._number = number
        if self._leaving:
            os._exit(self.exit_code)
        if not self._held or self.count > 2:
            self._act()

    def _act(self) -> None:
        if self._taker is not None:
            self._taker(self.count)
        elif self._raises and self.count == 1:
            raise KeyboardInterrupt
        else:
            self.leave()


def write_at_once(text: str) -> None:
    """Write a line of our own to stderr past Python's streams, which a handler of signals may have interrupted."""
    line = "\n" if os.isatty(2) else ""  # where a terminal has a line that moves, or half an answer
    with suppress(OSError):  # the terminal is gone
        os.write(2, f"{line}{text}\n".encode(getattr(sys.__stderr__, "encoding", "ascii"), "backslashreplace"))


def _write_error(sentence: str) -> None:
    import json

    told = {"kind": "interrupted", "message": f"Interrupted. {sentence}", "advice": ""}
    with suppress(OSError):
        os.write(1, json.dumps({"error": told}).encode() + b"\n")
