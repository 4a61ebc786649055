"""A run as it is laid beside others: its settings, its last state, what it took, and its curves in few points.

It is gathered in one pass over the events, and holds the same few points whether a run has a hundred steps or a
hundred thousand: every curve keeps the least and the largest value of each stretch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.metric import METRICS, step_fields
from qlora_studio.core.run.metric_history import Floats
from qlora_studio.core.run.run_state import RunState, fold

HELD_OUT = "evaluation"  # the key of the curve of the held-out loss
_AT_THE_END = 50  # a part of so many of a run's steps: the mean over it is what the run ends with, and what is smoothed
_HOUR = 3600.0
_POINTS = 2000  # of a curve
_TOKENS, _SECONDS, _PEAK = 1, 2, 3  # columns of a step, after the step itself; then its metrics
_FIRST = 4  # of the metrics
_METRICS = step_fields()
_VALUES = attrgetter("step", "tokens", "seconds", "peak_bytes", *_METRICS)


@dataclass(frozen=True)
class Curve:
    """Points of a metric, each at a step, at the tokens learned from and the hours trained until then: shape (n,).

    `smooth` is the mean of the steps around each point, of as many before it as after; None where none is drawn.
    """

    step: Floats
    tokens: Floats
    hours: Floats
    raw: Floats
    smooth: Floats | None = None

    def x(self, axis: str) -> Floats:
        """Return where the points stand on an axis: `step`, `tokens` or `hours`."""
        found: Floats = getattr(self, axis)
        return found


@dataclass(frozen=True)
class RunRecord:
    """A run and what it came to. `seconds` of training, evaluating and saving, pauses left out; 0 is not told.

    `train_loss` is the mean over its last steps. `energy_joules` is the card's, None where nothing told of it.
    `made_from` is what base and rows are by content, empty where no checkpoint says it.
    """

    name: str
    path: str
    config: RunConfig
    state: RunState
    seconds: float = 0.0
    tokens: int = 0
    peak_bytes: int = 0
    train_loss: float | None = None
    energy_joules: float | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    made_from: Fingerprints = field(default_factory=Fingerprints)


class RunReading:
    """Takes the events of a run in their order, as many at a time as come, and makes its record."""

    def __init__(self) -> None:
        self._state = RunState()
        self._steps = np.empty((256, _FIRST + len(_METRICS)), dtype=np.float64)
        self._count = 0
        self._evaluations: list[tuple[float, float, float, float]] = []  # step, tokens, hours, loss
        self._wasted = 0.0  # seconds of steps that a later session took again
        self._beside = 0.0  # seconds of evaluations and savings
        self._peak = 0

    def extend(self, events: Sequence[ev.Event]) -> None:
        """Take more events."""
        self._state = fold(self._state, events)
        steps: list[ev.StepDone] = []
        for event in events:
            if isinstance(event, ev.StepDone):
                steps.append(event)
                continue
            if isinstance(event, ev.Evaluated | ev.CheckpointSaved | ev.Resumed):
                self._add(steps)
                steps = []
                self._turn(event)
        self._add(steps)

    def record(self, name: str, path: str, config: RunConfig, made_from: Fingerprints) -> RunRecord:
        """Return the record of what was taken so far, of the run that these events are of."""
        steps = self._steps[: self._count]
        tokens, seconds = np.cumsum(steps[:, _TOKENS]), np.cumsum(steps[:, _SECONDS])
        return RunRecord(
            name=name,
            path=path,
            config=config,
            state=self._state,
            seconds=self._seconds(),
            tokens=int(tokens[-1]) if len(tokens) else 0,
            peak_bytes=self._peak,
            train_loss=_mean_at_the_end(self._column("loss")),
            energy_joules=self._state.energy or None,
            curves=self._curves(steps[:, 0], tokens, seconds / _HOUR),
            made_from=made_from,
        )

    def _add(self, steps: Sequence[ev.StepDone]) -> None:
        if not steps:
            return
        rows = np.array([_VALUES(event) for event in steps], dtype=np.float64)
        count = self._count + len(rows)
        if count > len(self._steps):
            self._steps = np.concatenate([self._steps, np.empty((max(count, len(self._steps)), rows.shape[1]))])
        self._steps[self._count : count] = rows
        self._count = count
        allocated = rows[:, _FIRST + _METRICS.index("allocated_bytes")]
        self._peak = max(self._peak, int(np.maximum(rows[:, _PEAK], allocated).max()))

    def _turn(self, event: ev.Evaluated | ev.CheckpointSaved | ev.Resumed) -> None:
        if isinstance(event, ev.Resumed):
            self._go_back(event.step)
            return
        self._beside += event.seconds
        if isinstance(event, ev.Evaluated) and event.loss is not None:
            tokens = float(self._steps[: self._count, _TOKENS].sum())
            while self._evaluations and self._evaluations[-1][0] >= event.step:
                self._evaluations.pop()
            self._evaluations.append((event.step, tokens, self._trained() / _HOUR, event.loss))

    def _go_back(self, step: int) -> None:
        """Forget what is taken again: it counts as time, and as nothing else."""
        before = self._trained()
        self._count = int(np.searchsorted(self._steps[: self._count, 0], step, side="right"))
        self._wasted += before - self._trained()
        while self._evaluations and self._evaluations[-1][0] > step:
            self._evaluations.pop()

    def _trained(self) -> float:
        return float(self._steps[: self._count, _SECONDS].sum())

    def _seconds(self) -> float:
        trained = self._trained() + self._wasted
        return trained + self._beside if trained else 0.0  # versions that told no seconds of a step: not half of it

    def _column(self, name: str) -> Floats:
        return self._steps[: self._count, _FIRST + _METRICS.index(name)]

    def _curves(self, step: Floats, tokens: Floats, hours: Floats) -> dict[str, Curve]:
        curves = {}
        for key, metric in METRICS.items():
            rather = self._column(metric.rather or key)
            values = (rather if np.any(rather > 0) else self._column(key)) / metric.scale
            curves[key] = _curve(step, tokens, hours, values, smooth=metric.smooth)
        points = np.array(self._evaluations, dtype=np.float64).reshape(-1, 4).T
        curves[HELD_OUT] = Curve(*points)
        return curves


def centred_mean(values: Floats, width: int) -> Floats:
    """Return the mean of the `width` values around each, gaps left out; towards the ends of as many as both sides have.

    So the ends are neither drawn to zero nor told by one side alone.
    """
    count = len(values)
    index = np.arange(count)
    reach = np.minimum(np.minimum(index, count - 1 - index), width // 2)
    known = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first, last = index - reach, index + reach + 1
    with np.errstate(invalid="ignore"):
        means: Floats = (totals[last] - totals[first]) / (counts[last] - counts[first])
    return means


def thinned(values: Floats, points: int = _POINTS) -> NDArray[np.int64]:
    """Return which values stay, at most about `points`: the least and the largest of each stretch, and both ends."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    stretch = -(-count // (points // 2))
    whole = np.full(-(-count // stretch) * stretch, np.nan)
    whole[:count] = values
    parts = whole.reshape(-1, stretch)
    starts = np.arange(len(parts)) * stretch
    least = np.where(np.isnan(parts), np.inf, parts).argmin(axis=1) + starts
    largest = np.where(np.isnan(parts), -np.inf, parts).argmax(axis=1) + starts
    return np.array(sorted({0, count - 1, *least.tolist(), *largest.tolist()}), dtype=np.int64)


def _curve(step: Floats, tokens: Floats, hours: Floats, raw: Floats, *, smooth: bool) -> Curve:
    kept = thinned(raw)
    means = centred_mean(raw, max(1, len(raw) // _AT_THE_END)) if smooth else None
    return Curve(step[kept], tokens[kept], hours[kept], raw[kept], None if means is None else means[kept])


def _mean_at_the_end(losses: Floats) -> float | None:
    last = losses[-max(1, math.ceil(len(losses) / _AT_THE_END)) :]
    known = last[np.isfinite(last)]
    return float(known.mean()) if len(known) else None
