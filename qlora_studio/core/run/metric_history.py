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


class Curves:
    """Values over the same x, in a growing float64 buffer of shape (1 + values, room); missing ones are NaN."""

    def __init__(self, values: int) -> None:
        self.cuts = 0
        self._points = np.empty((1 + values, 256), dtype=np.float64)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def row(self, number: int) -> Floats:
        """Return a view, shape (n,): of x (0), or of a value (from 1 on)."""
        return self._points[number, : self._length]

    def append(self, rows: Sequence[Floats | Sequence[float | None]]) -> None:
        """Add points, x first; None is kept as a gap."""
        length = self._length + len(rows[0])
        if length > self._points.shape[1]:
            points = np.empty((len(self._points), max(length, 2 * self._length)), dtype=np.float64)
            points[:, : self._length] = self._points[:, : self._length]  # what is not written takes no memory
            self._points = points
        for number, row in enumerate(rows):
            self._points[number, self._length : length] = row  # numpy makes NaN of None
        self._length = length

    def truncate_from(self, x: float) -> None:
        """Drop the points at `x` and beyond: a resumed run takes those steps again."""
        length = int(np.searchsorted(self.row(0), x, side="left"))
        if length < self._length:
            self._length, self.cuts = length, self.cuts + 1


class Series:
    """Points (x, y): a value of curves, or one alone. `cuts` counts how often points were dropped."""

    def __init__(self, curves: Curves | None = None, number: int = 1) -> None:
        self._curves = curves if curves is not None else Curves(1)
        self._number = number

    def __len__(self) -> int:
        return len(self._curves)

    @property
    def cuts(self) -> int:
        """How often points were dropped."""
        return self._curves.cuts

    @property
    def x(self) -> Floats:
        """A view of the x values, shape (n,)."""
        return self._curves.row(0)

    @property
    def y(self) -> Floats:
        """A view of the y values, shape (n,)."""
        return self._curves.row(self._number)

    def append(self, x: Floats | Sequence[float], y: Floats | Sequence[float | None]) -> None:
        """Add points to a series alone."""
        self._curves.append((x, y))

    def truncate_from(self, x: float) -> None:
        """Drop the points at `x` and beyond of a series alone."""
        self._curves.truncate_from(x)


class MetricHistory:
    """The series of one run: one per field of a step that is plotted, the evaluation loss; and the spikes.

    `places` says by step how far the run was, in other units: the tokens so far, the hours that the steps so far took
    (steps that a resumed run took again count once, pauses and evaluations not at all), the epoch.
    """

    def __init__(self) -> None:
        names = (*PLACES, *step_fields())
        self._curves = Curves(len(names))
        series = {name: Series(self._curves, number) for number, name in enumerate(names, start=1)}
        self.places = {name: series[name] for name in PLACES}
        self.steps = {name: series[name] for name in step_fields()}
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
        for name, row in zip(self.places, columns[1:], strict=False):
            row[:] = _places(name, row, float(self.places[name].y[-1]) if len(self._curves) else 0.0)
        for name, row in zip(self.steps, columns[1 + len(PLACES) :], strict=True):
            if name in self._positive:
                row[~(row > 0)] = np.nan
        self._curves.append([*columns])
        found = (self._finder.add(event.step, event.loss) for event in steps)
        self.spikes += [spike for spike in found if spike is not None]

    def _go_back(self, step: int) -> None:
        self._curves.truncate_from(step + 1)
        self.evaluation.truncate_from(step + 1)
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
