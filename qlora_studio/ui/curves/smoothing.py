"""A moving average that goes on where it stopped: a plot redrawn each second must not begin at step one each time.

It is the exponential average of Kingma and Ba, "Adam" (2015), section 3, with their correction of the bias towards
zero: the sum of the weights so far divides it, so the first average is the first value and a level curve stays level.
TensorBoard draws its curves by the same rule. It looks back alone: what comes later changes nothing of what is drawn,
and at the newest step it lags behind a falling curve by some 1 / (1 - weight) steps. A centred average would not lag,
but would bend its end anew with each step, by values that it made up.
"""

import math

import numpy as np

from qlora_studio.core.run.metric_history import Floats, Series

_BLOCK = 64


class MovingAverage:
    """The bias-corrected exponential average of a series, kept up to date. A gap keeps the average before it."""

    def __init__(self, weight: float = 0.9) -> None:
        self.weight = weight
        steps = np.arange(_BLOCK)
        lag = steps[:, None] - steps[None, :]
        self._shares = np.where(lag >= 0, (1 - weight) * weight ** np.maximum(lag, 0), 0.0)
        self._fading = weight ** (steps + 1.0)
        self._series: Series | None = None
        self._total, self._last = 0.0, math.nan
        self._begin(None)

    def of(self, series: Series) -> Floats:
        """Return the averages of `series`, shape (n,). Begins anew where the series is another, or was cut."""
        if series is not self._series or series.cuts != self._cuts:
            self._begin(series)
        new = series.y[len(self._out) :]
        self._out.append(series.x[len(self._out) :], self._averages(new))
        return self._out.y

    def _averages(self, values: Floats) -> Floats:
        """Return the averages of the next values, shape (n,): a block of them is one product of matrices."""
        known = np.isfinite(values)
        totals = self._totals(values[known])
        fading = math.log(self.weight) if self.weight else -math.inf
        norms = -np.expm1(fading * np.arange(self._count + 1.0, self._count + 1 + len(totals)))
        averages: Floats = np.concatenate([[self._last], totals / norms])
        self._count += len(totals)
        self._last = float(averages[-1])
        spread: Floats = averages[np.cumsum(known)]
        return spread

    def _totals(self, values: Floats) -> Floats:
        """Return the weighted sums, shape (n,): those within each block at once, then what each hands to the next."""
        blocks = np.zeros((-(-len(values) // _BLOCK), _BLOCK))
        blocks.reshape(-1)[: len(values)] = values
        within = blocks @ self._shares.T
        before = np.empty(len(blocks))
        for index, last in enumerate(within[:, -1].tolist()):
            before[index] = self._total
            self._total = last + float(self._fading[-1]) * self._total
        totals: Floats = (within + before[:, None] * self._fading).reshape(-1)[: len(values)]
        if len(totals):
            self._total = float(totals[-1])
        return totals

    def _begin(self, series: Series | None) -> None:
        self._series, self._cuts = series, series.cuts if series is not None else 0
        self._out = Series()
        self._count, self._total, self._last = 0, 0.0, math.nan


def last_finite(values: Floats) -> float | None:
    """Return the newest value that is one."""
    for end in range(len(values), 0, -_BLOCK):  # from the end: a long run is asked many times a second
        part = values[max(0, end - _BLOCK) : end]
        known = np.flatnonzero(np.isfinite(part))
        if len(known):
            return float(part[known[-1]])
    return None
