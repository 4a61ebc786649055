"""Loss spikes: steps whose training loss stands far above what was usual just before.

A robust outlier test (Iglewicz and Hoaglin, 1993): the loss is compared with the median of the steps before, in units
of their median absolute deviation times 1.4826, which for normal noise is its standard deviation. Median and deviation
are not moved by the spikes themselves, as mean and variance would be. Only upwards, and only far out: a batch of hard
rows is no spike. What it means is for the user to judge: a damaged row, a rate that is too high, or the way to a NaN.
"""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import median

WINDOW = 50  # steps before that are compared with
LEAST = 20  # steps before that are needed
DEVIATIONS = 8.0  # more than this many robust deviations above the median is a spike
_NORMAL = 1.4826  # median absolute deviation to standard deviation, for normal noise
_FLOOR = 0.02  # least deviation, as a share of the median: a curve without noise would find spikes everywhere


@dataclass(frozen=True)
class LossSpike:
    """A step whose loss stood `deviations` robust deviations above `usual`, the median of the steps before."""

    step: int
    loss: float
    usual: float
    deviations: float


class SpikeFinder:
    """Looks at one loss after the other."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, step: int, loss: float | None) -> LossSpike | None:
        """Take the next step's loss; return the spike that it is, if it is one. A missing loss is passed over."""
        if loss is None:
            return None
        found = None
        if len(self._recent) >= LEAST:
            low = self._sorted[(len(self._sorted) - 1) // 2]  # the median is no less
            if loss > low + DEVIATIONS * (_FLOOR * abs(low)):  # else it is none, and no call is made for that
                found = self._judged(step, loss)
        self._recent.append(loss)
        insort(self._sorted, loss)
        if len(self._recent) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        return found

    def _judged(self, step: int, loss: float) -> LossSpike | None:
        usual = _middle(self._sorted)
        least = _FLOOR * abs(usual) or 1e-9
        deviation = max(least, _NORMAL * median(abs(value - usual) for value in self._sorted))
        deviations = (loss - usual) / deviation
        return LossSpike(step, loss, usual, deviations) if deviations > DEVIATIONS else None


def _middle(values: list[float]) -> float:
    """Return the median of sorted values."""
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
