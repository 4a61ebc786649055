"""The numbers behind the curves: a row a step, made when it is looked at."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qlora_studio.core.run.metric import METRICS, Metric
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.ui.kit.fields import number_text
from qlora_studio.ui.kit.tables import Column

_HELD_OUT = ("evaluation loss",)


def metric_columns() -> tuple[Column, ...]:
    """Return the columns: the step, every metric that has one, the held-out loss beside the loss, what happened."""
    headings = [text for metric in _shown() for text in (metric.column, *_HELD_OUT[: metric.loss])]
    values = [Column(heading, _text_at(index), right=True) for index, heading in enumerate(headings, 1)]
    return (
        Column("step", lambda row: f"{row[0]:,}", right=True),
        *values,
        Column("what happened", lambda row: row[-1], stretch=True),
    )


class MetricRows(Sequence[tuple[Any, ...]]):
    """The rows of the table. `annotations` tells by step what is to be said beside the numbers."""

    def __init__(self, history: MetricHistory, annotations: Mapping[int, str]) -> None:
        self._series = [(metric, history.steps[metric.field]) for metric in _shown()]
        self._x = history.steps["loss"].x
        self._evaluations = dict(zip(history.evaluation.x.tolist(), history.evaluation.y.tolist(), strict=True))
        self._annotations = annotations

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: Any) -> Any:
        step = int(self._x[index])
        values: list[float | None] = []
        for metric, series in self._series:
            values.append(float(series.y[index]) / metric.scale)
            if metric.loss:
                values.append(self._evaluations.get(step))
        return (step, *values, self._annotations.get(step, ""))


def value_text(value: float | None) -> str:
    """Return a value with four figures, a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    return number_text(float(f"{value:.4g}"))


def _text_at(index: int) -> Callable[[Any], str]:
    return lambda row: value_text(row[index])


def _shown() -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.column]
