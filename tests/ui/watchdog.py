"""A watchdog of the window's thread: how long the event loop went without a turn, and what was at work meanwhile.

Each gap is told three times: by the clock, by what the thread computed itself, and by the clock less what it waited
for a processor that others had. The last is what a quiet machine would show, waiting for files and locks included.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy
from PySide6.QtCore import Qt, QTimer

LATE_SECONDS = 0.03  # from here on it is noted what is at work
_ALL, _AT_WORK = "all turns together", "those that worked"
_WORK_SECONDS = 0.001  # an idle turn, which tells that it came round, takes a fifth of that
_TURN_MILLISECONDS = 2
_LOOK_SECONDS = 0.004
_CALLS = 5  # of a stack, the innermost first
_WAITING = Path("/proc/thread-self/schedstat")  # of Linux: nanoseconds at work, and ready without a processor
_OWN = ("watchdog", "threading", "<frozen")


class Gap(NamedTuple):
    """Seconds between two turns: by the clock, of the thread's own work, and by the clock of a quiet machine."""

    clock: float
    work: float
    quiet: float


@dataclass(frozen=True)
class Stall:
    """A gap that was too long, and the stacks that were seen in it, the commonest first."""

    phase: str
    gap: Gap
    stacks: tuple[str, ...]

    def __str__(self) -> str:
        where = "; ".join(self.stacks) or "too short to be seen"
        return f"{self.phase}: {1000 * self.gap.work:.0f} ms of work, {1000 * self.gap.clock:.0f} by the clock: {where}"


class Watchdog:
    """Watches the thread that makes it, by phases. What took `limit` seconds or more is kept in `stalls`.

    A gap counts as a stall by the thread's own work, so that a busy machine accuses nobody.
    """

    def __init__(self, *, limit: float = 0.1, ours: tuple[str, ...] = ()) -> None:
        """`ours` are names of modules that are no part of what is watched, and left out of the stacks."""
        self.stalls: list[Stall] = []
        self.phase = ""
        self._limit, self._left_out = limit, _OWN + ours
        self._gaps: dict[str, list[Gap]] = {}
        self._worst: dict[str, Stall] = {}
        self._thread = threading.get_ident()
        self._seen: Counter[str] = Counter()
        self._begin = _Times.now()
        self._ending = threading.Event()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_TURN_MILLISECONDS)
        self._timer.timeout.connect(self.turn)
        self._watcher = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._watcher.start()

    def begin(self, phase: str) -> None:
        """Count from now, for this phase."""
        self.phase = phase
        self._begin = _Times.now()
        self._timer.start()

    def rest(self) -> None:
        """Count no more, until `begin`."""
        if self.phase:
            self.turn()
        self._timer.stop()
        self.phase = ""

    @contextmanager
    def watching(self, phase: str) -> Iterator[None]:
        """Count for a phase."""
        self.begin(phase)
        yield
        self.rest()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Leave out what whoever watches does itself."""
        phase = self.phase
        self.rest()
        yield
        if phase:
            self.begin(phase)

    def end(self) -> None:
        """End the watcher's thread."""
        self.rest()
        self._ending.set()
        self._watcher.join()

    def turn(self) -> None:
        """The event loop has come round."""
        now = _Times.now()
        gap = now.since(self._begin)
        self._gaps.setdefault(self.phase, []).append(gap)
        seen, self._seen = self._seen, Counter()
        stall = Stall(self.phase, gap, tuple(f"{count}x {stack}" for stack, count in seen.most_common(3)))
        if gap.work >= self._limit:
            self.stalls.append(stall)
        if self.phase not in self._worst or gap.quiet > self._worst[self.phase].gap.quiet:
            self._worst[self.phase] = stall
        self._begin = now

    def gaps(self) -> dict[str, list[Gap]]:
        """Return all gaps of each phase."""
        return self._gaps

    def figures(self) -> dict[str, dict[str, object]]:
        """Return for each phase the gaps' percentiles by the clock and on a quiet machine, in milliseconds."""
        return {
            phase: _figures(gaps) | {"at_work": "; ".join(self._worst[phase].stacks)}
            for phase, gaps in self._gaps.items()
        }

    def together(self) -> dict[str, dict[str, object]]:
        """Return the same of the turns of all phases, and of those among them that worked for a millisecond."""
        gaps = [gap for phase in self._gaps.values() for gap in phase]
        return {_ALL: _figures(gaps), _AT_WORK: _figures([gap for gap in gaps if gap.work >= _WORK_SECONDS])}

    def _look(self) -> None:
        """Look every few milliseconds what the watched thread does, where it is late."""
        while not self._ending.wait(_LOOK_SECONDS):
            if self.phase and time.perf_counter() - self._begin.clock > LATE_SECONDS:
                self._seen[self._stack(sys._current_frames().get(self._thread))] += 1

    def _stack(self, frame: FrameType | None) -> str:
        calls: list[str] = []
        while frame is not None and len(calls) < _CALLS:
            code = frame.f_code
            call = f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}"
            if not call.startswith(self._left_out):
                calls.append(call)
            frame = frame.f_back
        return " < ".join(calls) or "Qt alone"


def _figures(gaps: list[Gap]) -> dict[str, object]:
    table = 1000 * numpy.array(gaps)
    facts: dict[str, object] = {"turns": len(table)}
    for name, column in (("clock", 0), ("quiet", 2)):
        marks = numpy.percentile(table[:, column], (50, 95, 99, 99.9, 100))
        facts[name] = dict(zip(("p50", "p95", "p99", "p99.9", "worst"), marks.round(1).tolist(), strict=True))
    return facts | {"most_work": round(float(table[:, 1].max()), 1)}


class _Times(NamedTuple):
    """The clocks of the thread that asks, in seconds."""

    clock: float
    work: float
    waited: float

    @classmethod
    def now(cls) -> "_Times":
        return cls(time.perf_counter(), time.thread_time(), _waited())

    def since(self, begin: "_Times") -> Gap:
        clock = self.clock - begin.clock
        return Gap(clock, self.work - begin.work, max(0.0, clock - (self.waited - begin.waited)))


def _waited() -> float:
    """Return how long this thread was ready and had no processor; 0 where the system does not tell."""
    try:
        return int(_WAITING.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
