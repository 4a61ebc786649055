"""Metric series of a run for plots: numpy buffers beside the frozen state, decimated by min and max when long."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from qlora_studio.core.run.events import Evaluated, Event, Resumed, StepDone
from qlora_studio.core.run.loss_spike import LossSpike, SpikeFinder
from qlora_studio.core.run.metric import step_fields

Floats = NDArray[np.float64]


class Series:
    """Points (x, y) in growing float64 buffers; missing values are NaN."""

    def __init__(self) -> None:
        self._points = np.empty((2, 256), dtype=np.float64)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def x(self) -> Floats:
        """A view of the x values, shape (n,)."""
        return self._points[0, : self._length]

    @property
    def y(self) -> Floats:
        """A view of the y values, shape (n,)."""
        return self._points[1, : self._length]

    def append(self, x: Sequence[float], y: Sequence[float | None]) -> None:
        """Add points; None is kept as a gap."""
        length = self._length + len(x)
        if length > self._points.shape[1]:
            more = np.empty((2, max(length, 2 * self._length) - self._points.shape[1]), dtype=np.float64)
            self._points = np.concatenate([self._points, more], axis=1)
        self._points[:, self._length : length] = (x, y)  # numpy makes NaN of None
        self._length = length

    def truncate_from(self, x: float) -> None:
        """Drop the points at `x` and beyond: a resumed run takes those steps again."""
        self._length = int(np.searchsorted(self.x, x, side="left"))


class MetricHistory:
    """The series of one run: one per field of a step that is plotted, the evaluation loss; and the spikes."""

    def __init__(self) -> None:
        self.steps = {name: Series() for name in step_fields()}
        self.evaluation = Series()
        self.spikes: list[LossSpike] = []
        self._finder = SpikeFinder()

    def extend(self, events: Iterable[Event]) -> None:
        """Append what the events tell, in their order."""
        steps: list[StepDone] = []
        for event in events:
            match event:
                case StepDone():
                    steps.append(event)
                case Evaluated():
                    self.evaluation.truncate_from(event.step)
                    self.evaluation.append([event.step], [event.loss])
                case Resumed():
                    self._add(steps)
                    steps = []
                    self._go_back(event.step)
        self._add(steps)

    def _add(self, steps: Sequence[StepDone]) -> None:
        """Append many steps at once: a point at a time takes ten times as long."""
        numbers = [event.step for event in steps]
        for name, series in self.steps.items():
            series.append(numbers, [getattr(event, name) for event in steps])
        found = (self._finder.add(event.step, event.loss) for event in steps)
        self.spikes += [spike for spike in found if spike is not None]

    def _go_back(self, step: int) -> None:
        for series in (*self.steps.values(), self.evaluation):
            series.truncate_from(step + 1)
        self._look_again()

    def _look_again(self) -> None:
        """Find the spikes of what is left: the steps after it are taken again."""
        self._finder = SpikeFinder()
        losses = zip(self.steps["loss"].x.tolist(), self.steps["loss"].y.tolist(), strict=True)
        found = (self._finder.add(int(step), None if math.isnan(loss) else loss) for step, loss in losses)
        self.spikes = [spike for spike in found if spike is not None]


def decimated(x: Floats, y: Floats, points: int = 2000) -> tuple[Floats, Floats]:
    """Return at most about `points` points that keep each stretch's minimum and maximum."""
    if len(x) <= points:
        return x, y
    size = -(-len(x) // (points // 2))
    padded = np.full(-(-len(y) // size) * size, np.nan)
    padded[: len(y)] = y
    parts = padded.reshape(-1, size)
    kept = ~np.isnan(parts).all(axis=1)
    starts = np.arange(len(parts))[kept] * size
    lowest = np.where(np.isnan(parts[kept]), np.inf, parts[kept]).argmin(axis=1)
    highest = np.where(np.isnan(parts[kept]), -np.inf, parts[kept]).argmax(axis=1)
    pairs = np.sort(np.stack([starts + lowest, starts + highest], axis=1), axis=1).ravel()
    index = pairs[np.diff(pairs, prepend=-1) > 0]  # numpy's own `unique` imports masked arrays in the first replay
    return x[index], y[index]
