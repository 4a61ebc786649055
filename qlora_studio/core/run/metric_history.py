"""Metric series of a run for plots: numpy buffers beside the frozen state, decimated by min and max when long."""

from collections.abc import Iterable, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from qlora_studio.core.run.events import Evaluated, Event, Resumed, StepDone
from qlora_studio.core.run.loss_spike import WINDOW, LossSpike, SpikeFinder
from qlora_studio.core.run.metric import Metric, positive_fields, step_fields

Floats = NDArray[np.float64]
PLACES = {"tokens": "tokens", "hours": "seconds", "epoch": "epoch"}  # and the field of StepDone that each is made of
_LOOKED_BACK = 10 * WINDOW  # steps among which the last losses that are numbers are looked for


class Series:
    """Points (x, y) in growing float64 buffers; missing values are NaN. `cuts` counts how often points were dropped."""

    def __init__(self) -> None:
        self.cuts = 0
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

    def append(self, x: Floats | Sequence[float], y: Floats | Sequence[float | None]) -> None:
        """Add points; None is kept as a gap."""
        length = self._length + len(x)
        if length > self._points.shape[1]:
            more = np.empty((2, max(length, 2 * self._length) - self._points.shape[1]), dtype=np.float64)
            self._points = np.concatenate([self._points, more], axis=1)
        self._points[0, self._length : length] = x
        self._points[1, self._length : length] = y  # numpy makes NaN of None
        self._length = length

    def truncate_from(self, x: float) -> None:
        """Drop the points at `x` and beyond: a resumed run takes those steps again."""
        length = int(np.searchsorted(self.x, x, side="left"))
        if length < self._length:
            self._length, self.cuts = length, self.cuts + 1


class MetricHistory:
    """The series of one run: one per field of a step that is plotted, the evaluation loss; and the spikes.

    `places` says by step how far the run was, in other units: the tokens so far, the hours that the steps so far took
    (steps that a resumed run took again count once, pauses and evaluations not at all), the epoch.
    """

    def __init__(self) -> None:
        self.steps = {name: Series() for name in step_fields()}
        self.places = {name: Series() for name in PLACES}
        self.evaluation = Series()
        self.spikes: list[LossSpike] = []
        self._finder = SpikeFinder()
        self._positive = positive_fields()
        self._values = attrgetter("step", *PLACES.values(), *self.steps)

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

    def of(self, metric: Metric) -> Series:
        """Return the series that a metric shows: what is rather shown in its place, where that was ever told."""
        rather = self.steps.get(metric.rather)
        return rather if rather is not None and np.isfinite(rather.y).any() else self.steps[metric.field]

    def _add(self, steps: Sequence[StepDone]) -> None:
        """Append many steps at once: a point at a time takes ten times as long."""
        if not steps:
            return
        columns = np.array([self._values(event) for event in steps], dtype=np.float64).T
        for (name, series), values in zip(self.steps.items(), columns[1 + len(PLACES) :], strict=True):
            series.append(columns[0], np.where(values > 0, values, np.nan) if name in self._positive else values)
        for (name, series), values in zip(self.places.items(), columns[1:], strict=False):
            series.append(columns[0], _places(name, values, float(series.y[-1]) if len(series) else 0.0))
        found = (self._finder.add(event.step, event.loss) for event in steps)
        self.spikes += [spike for spike in found if spike is not None]

    def _go_back(self, step: int) -> None:
        for series in (*self.steps.values(), *self.places.values(), self.evaluation):
            series.truncate_from(step + 1)
        while self.spikes and self.spikes[-1].step > step:
            self.spikes.pop()
        self._finder = SpikeFinder()  # which knows the last losses alone: a thousand resumptions take no time
        losses = self.steps["loss"].y[-_LOOKED_BACK:]
        for loss in losses[np.isfinite(losses)].tolist()[-WINDOW:]:
            self._finder.add(step, loss)


def decimated(x: Floats, y: Floats, points: int = 2000) -> tuple[Floats, Floats]:
    """Return at most about `points` points that keep each stretch's minimum and maximum; a stretch of gaps stays one.

    One pass over the points: 100,000 take about a millisecond.
    """
    if len(x) <= points:
        return x, y
    size = -(-len(x) // (points // 2))
    padded = np.full(-(-len(y) // size) * size, np.nan)
    padded[: len(y)] = y
    parts = padded.reshape(-1, size)
    gaps = np.isnan(parts)
    starts = np.arange(len(parts)) * size
    lowest = np.where(gaps, np.inf, parts).argmin(axis=1)
    highest = np.where(gaps, -np.inf, parts).argmax(axis=1)
    pairs = np.sort(np.stack([starts + lowest, starts + highest], axis=1), axis=1).ravel()
    index = pairs[np.diff(pairs, prepend=-1) > 0]  # numpy's own `unique` imports masked arrays in the first replay
    return x[index], y[index]


def _places(name: str, values: Floats, before: float) -> Floats:
    """Return how far the run was after each step: what is told by step is summed up, the epoch is told as it is."""
    if name == "epoch":
        return values
    return before + np.cumsum(values) / (3600.0 if name == "hours" else 1.0)
