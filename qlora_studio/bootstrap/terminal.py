"""The setup on a terminal, or in a log: a line for each step."""

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from qlora_studio.bootstrap.failure import SetupError, Stopped
from qlora_studio.bootstrap.journey import Journey, Progress, Step, Wish
from qlora_studio.bootstrap.places import Places
from qlora_studio.bootstrap.source import version_of
from qlora_studio.bootstrap.summary import summary
from qlora_studio.core.words import say

_WIDTH = 79
STOPPED = 130  # as a shell says it of a program that Ctrl-C ended


def set_up(places: Places, wish: Wish, *, ask: bool) -> int:
    """Set it up, after a question where `ask` says so; return the exit code."""
    print("\n".join(summary(places, wish)))
    if ask and not _is_wanted():
        return 0 if places.current() else STOPPED
    journey, show = _journey(places, wish)
    return _told(journey, lambda: _go(journey, show))


def collect(places: Places, wish: Wish, folder: Path) -> int:
    """Fill a folder with wheels."""
    journey, show = _journey(places, wish)

    def gather() -> None:
        count = journey.collect(folder)
        show.end()
        print(
            say("{count} wheels are in {folder}. There: qlora-studio-setup --wheels FOLDER", count=count, folder=folder)
        )

    return _told(journey, gather)


def fail(error: SetupError) -> int:
    """Say what went wrong and what to do."""
    print(f"{error.message}\n{error.advice}", file=sys.stderr)
    return 1


class Lines:
    """Shows progress: over and over in one line on a terminal, else as a line for each step and file."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._last = ""
        self._is_terminal = sys.stdout.isatty()

    def show(self, progress: Progress) -> None:
        """Show where it stands."""
        if progress.step is not self._step:
            self.end()
            self._step = progress.step
        share = f" {progress.share:4.0%}" if progress.share is not None else ""
        line = f"{progress.step.value}{share}  {progress.detail}".rstrip()
        if self._is_terminal:
            print("\r" + line[:_WIDTH].ljust(_WIDTH), end="", flush=True)
        elif (said := progress.detail.split(",")[0] or progress.step.value) != self._last:
            self._last = said
            print(line, flush=True)

    def end(self) -> None:
        """End the line."""
        if self._is_terminal and self._step is not None:
            print()
        self._step = None


def _journey(places: Places, wish: Wish) -> tuple[Journey, Lines]:
    lines = Lines()
    return Journey(places, wish, lines.show, threading.Event()), lines


def _go(journey: Journey, show: Lines) -> None:
    environment = journey.go()
    show.end()
    print(say("QLoRA Studio {version} is ready.", version=version_of(environment.folder.name)))


def _told(journey: Journey, work: Callable[[], None]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: journey.stop.set())
    signal.signal(signal.SIGINT, lambda *_: journey.stop.set())
    try:
        work()
    except SetupError as error:
        print()
        return fail(error)
    except Stopped:
        print("\n" + say("Stopped. What was downloaded is kept: the next time, it goes on from there."))
        return STOPPED
    return 0


def _is_wanted() -> bool:
    try:
        return input(say("Set it up now? [Y/n] ")).strip().lower() in ("", "y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
