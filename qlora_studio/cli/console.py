"""The door that all output goes through: results to stdout, all else to stderr; with --json, stdout is one object.

Text of others, such as the name of a run, a model's answer or a cell of a dataset, may hold what a terminal obeys. So
whatever is no plain character is shown as Python writes it (`\\x1b`, `\\u202e`), and where one line is meant a newline
too. What the stream's encoding has no character for looks the same.
"""

import codecs
import json
import os
import re
import shutil
import sys
from typing import Any, TextIO

from qlora_studio.cli.interruption import Interruption
from qlora_studio.core.errors import FULL_DISK, FailureKind, StudioError

# C0 without tab and newline, DEL, C1, marks of direction, separators of lines, halves of surrogate pairs.
_SIGNS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LEAST_WIDTH = 2
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


class ReaderGone(Exception):
    """Whoever read our stdout has seen enough."""


class Console:
    """The two streams of a command, and what interrupts it."""

    def __init__(
        self,
        *,
        json: bool = False,
        details: bool = False,
        quiet: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        self.json = json
        self.details = details
        self.quiet = quiet
        self.interruption = interruption or Interruption()
        self._drawn = False  # whether the terminal has a line that moves,
        self._amid = False  # or text that goes on

    @property
    def shows_progress(self) -> bool:
        """Whether a line that moves can be drawn."""
        return not self.quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def if_interrupted(self, sentence: str) -> None:
        """Keep what is true from now on, to be said where a signal ends the command."""
        self.interruption.sentence = one_line(sentence)

    def say(self, *lines: str) -> None:
        """Print lines for people who wait: to stderr, and not with --quiet."""
        self.wipe()
        if not self.quiet:
            write_err("".join(f"{one_line(line)}\n" for line in lines))

    def draw(self, line: str) -> None:
        """Draw the line that moves, over what it was; not where it would hide half a line of the result."""
        if self._amid and sys.stdout.isatty():
            return
        self._drawn = True
        write_err(f"\r\x1b[K{one_line(line)[: _width() - 1]}")

    def wipe(self) -> None:
        """Take the line that moves away."""
        if self._drawn:
            self._drawn = False
            write_err("\r\x1b[K")

    def result(self, *lines: str) -> None:
        """Print lines of the result for people; nothing with --json."""
        self.wipe()
        if not self.json:
            write_out("".join(f"{one_line(line)}\n" for line in lines))

    def stream(self, text: str) -> None:
        """Print a piece of text as it comes, lines and all; nothing with --json."""
        if text and not self.json:
            self.wipe()
            self._amid = not text.endswith("\n")
            write_out(with_signs(text))

    def report(self, data: dict[str, Any]) -> None:
        """Print the result for programs, in ASCII where the stream is not UTF-8; nothing without --json."""
        if self.json:
            text = json.dumps(data, ensure_ascii=not _is_utf8(sys.stdout))
            write_out(_SIGNS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text) + "\n")

    def fail(self, error: StudioError, **facts: Any) -> int:
        """Print what went wrong and what to do, and return the exit code for it."""
        self.wipe()
        lines = [error.message.replace("\n", "\n  ")]  # indented, a line that others wrote is none of ours
        lines += [one_line(error.advice)] if error.advice else []
        if error.detail:
            detail = error.detail.rstrip().replace("\n", "\n  ")
            lines += ["", f"  {detail}"] if self.details else ["(--details shows more.)"]
        write_err("".join(f"{with_signs(line)}\n" for line in lines))
        told = {"kind": error.kind, "message": error.message, "advice": error.advice}
        self.report({**facts, "error": told})
        return error.kind.exit_code


def with_signs(text: str) -> str:
    """Return text that a terminal shows and does not obey; tabs and newlines stay."""
    return _SIGNS.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return text as a line that begins no other one."""
    return with_signs(text).replace("\n", "\\n")


def write_out(text: str) -> None:
    """Write to stdout. Raises ReaderGone where nobody reads any more, StudioError where it cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        _drop(sys.stdout)
        raise ReaderGone from error
    except OSError as error:
        _drop(sys.stdout)
        raise StudioError(
            f"The result cannot be written to where it was sent: {error.strerror or error}.",
            kind=FailureKind.DISK_FULL if error.errno in FULL_DISK else FailureKind.NOT_WRITABLE,
            advice="Send it elsewhere, or leave the redirection out.",
        ) from error


def write_err(text: str) -> None:
    """Write to stderr; that nobody reads it stops nothing."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def open_streams() -> None:
    """Let no stream refuse a character, and open those that were closed: a file of ours would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
        elif name != "stdin":
            getattr(sys, name).reconfigure(errors="backslashreplace")


def has_character(character: str) -> bool:
    """Whether stderr can show a character."""
    try:
        character.encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def has_display() -> bool:
    """Whether there is a screen to draw on; Windows and macOS always have one."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in _DISPLAYS)


def require_display() -> None:
    """Raise StudioError where no window can be opened."""
    if not has_display():
        raise StudioError(
            "There is no display to open a window on.",
            kind=FailureKind.NO_DISPLAY,
            advice="Every command works without one: see `qlora-studio --help`, or try `qlora-studio demo`.",
        )


def _nowhere(number: int) -> TextIO:
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return open(number, "r" if number == 0 else "w", encoding="utf-8")


def _drop(stream: TextIO) -> None:
    """Let a stream that broke lead nowhere, so that Python's own ending does not stumble over what it still holds."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def _is_utf8(stream: TextIO) -> bool:
    return codecs.lookup(stream.encoding or "ascii").name == "utf-8"


def _width() -> int:
    """Return how many cells the terminal has now, by stderr; some say none."""
    try:
        columns = os.get_terminal_size(2).columns
    except OSError:
        columns = shutil.get_terminal_size().columns
    return max(columns or shutil.get_terminal_size().columns, _LEAST_WIDTH)
