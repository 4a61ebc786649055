"""A moving average that goes on where it stopped: a plot redrawn each second must not begin at step one each time."""

import math

import numpy as np

from qlora_studio.core.run.metric_history import Floats, Series


class MovingAverage:
    """The bias-corrected exponential average of a series, gaps carried over, kept up to date."""

    def __init__(self, weight: float = 0.9) -> None:
        self.weight = weight
        self._out = Series()
        self._done = 0
        self._last_x = self._total = self._norm = 0.0

    def of(self, series: Series) -> Floats:
        """Return the averages of `series`, shape (n,). Begins anew where the series is another, or was cut."""
        x, y = series.x, series.y
        if self._done > len(x) or (self._done and x[self._done - 1] != self._last_x):
            self._begin()
        self._out.append(x[self._done :].tolist(), [self._next(value) for value in y[self._done :].tolist()])
        self._done = len(x)
        self._last_x = float(x[-1]) if len(x) else math.nan
        return self._out.y

    def _next(self, value: float) -> float | None:
        if math.isfinite(value):
            self._total = self.weight * self._total + (1 - self.weight) * value
            self._norm = self.weight * self._norm + (1 - self.weight)
        return self._total / self._norm if self._norm else None

    def _begin(self) -> None:
        self._out = Series()
        self._done, self._last_x, self._total, self._norm = 0, math.nan, 0.0, 0.0


def last_finite(values: Floats) -> float | None:
    """Return the newest value that is one."""
    known = np.flatnonzero(np.isfinite(values))
    return float(values[known[-1]]) if len(known) else None
