"""The numbers behind the curves: a row a step, made when it is looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.ui.kit.fields import number_text
from qlora_studio.ui.kit.tables import Column

COLUMNS = (
    Column("step", lambda r: f"{r[0]:,}", right=True),
    Column("train loss", lambda r: value_text(r[1]), right=True),
    Column("evaluation loss", lambda r: value_text(r[2]), right=True),
    Column("learning rate", lambda r: value_text(r[3]), right=True),
    Column("gradient norm", lambda r: value_text(r[4]), right=True),
    Column("tokens/s", lambda r: value_text(r[5]), right=True),
    Column("what happened", lambda r: r[6], stretch=True),
)


class MetricRows(Sequence[tuple[Any, ...]]):
    """The rows of the table. `annotations` tells by step what is to be said beside the numbers."""

    def __init__(self, history: MetricHistory, annotations: Mapping[int, str]) -> None:
        self._steps = history.steps
        self._x = history.steps["loss"].x
        self._evaluations = dict(zip(history.evaluation.x.tolist(), history.evaluation.y.tolist(), strict=True))
        self._annotations = annotations

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: Any) -> Any:
        step = int(self._x[index])
        values = (self._steps[key].y[index] for key in ("learning_rate", "gradient_norm", "tokens_per_second"))
        told = self._annotations.get(step, "")
        return (step, float(self._steps["loss"].y[index]), self._evaluations.get(step), *map(float, values), told)


def value_text(value: float | None) -> str:
    """Return a value with four figures, a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    return number_text(float(f"{value:.4g}"))
