"""Windows' silent spill: graphics memory that overflows into the machine's own, so that a run is slow and never told.

Linux refuses an allocation that does not fit. The Windows driver grants it from system memory, and every access then
goes over the bus: nothing fails, and a step takes several times as long. Sizes are bytes, durations seconds.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median

from qlora_studio.core.quantity import bytes_text

_FULL_SHARE = 0.97
_SLOWER = 2.0
_RECENT, _LEAST_STEPS = 3, 3


@dataclass(frozen=True)
class StepMemory:
    """One step: its time for each token, and what torch held of the card, beside what the card has and has free."""

    seconds_per_token: float
    reserved_bytes: int
    total_bytes: int
    free_bytes: int

    @property
    def is_full(self) -> bool:
        """Whether the card is at its limit."""
        return self.total_bytes - self.free_bytes >= _FULL_SHARE * self.total_bytes


class SpillWatch:
    """Sees a spill in a run's steps, and says it once."""

    def __init__(self) -> None:
        self._quick: list[float] = []  # of steps with room on the card
        self._recent: deque[StepMemory] = deque(maxlen=_RECENT)
        self._said = False

    def look(self, step: StepMemory) -> str:
        """Return what to tell the user of a spill that this step shows; nothing where there is none, or it was told."""
        self._recent.append(step)
        if not step.is_full:
            self._quick.append(step.seconds_per_token)
        if self._said:
            return ""
        if step.reserved_bytes > step.total_bytes:
            over = bytes_text(step.reserved_bytes - step.total_bytes)
            return self._say(f"This run holds {over} more than the card has")
        if self._is_slow():
            return self._say("The card's memory is full and steps have become much slower")
        return ""

    def _is_slow(self) -> bool:
        full = len(self._recent) == _RECENT and all(step.is_full for step in self._recent)
        if not full or len(self._quick) < _LEAST_STEPS:
            return False
        return median(step.seconds_per_token for step in self._recent) >= _SLOWER * median(self._quick)

    def _say(self, seen: str) -> str:
        self._said = True
        return (
            f"{seen}: Windows keeps the rest in the computer's own memory, which is many times slower. "
            "Pause, close other programs or take a smaller batch or length, and resume."
        )
