"""The numbers behind the curves: a row a step for the table, made when it is looked at, and all of them as text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qlora_studio.core.run.metric import METRICS
from qlora_studio.core.run.metric_history import Floats, MetricHistory
from qlora_studio.core.words import say
from qlora_studio.ui.curves.scale import value_text
from qlora_studio.ui.kit.tables import Column

_HELD_OUT = (say("evaluation loss"),)
_PLACES = {"epoch": say("epoch"), "tokens": say("tokens"), "hours": say("hours of training")}


def metric_columns() -> tuple[Column, ...]:
    """Return the columns: the step, every metric, the held-out loss beside the loss, what happened."""
    values = [Column(heading, _text_at(index), right=True) for index, heading in enumerate(_headings(), 1)]
    return (
        Column(say("step"), lambda row: f"{row[0]:,}", right=True),
        *values,
        Column(say("what happened"), lambda row: row[-1], stretch=True),
    )


class MetricRows(Sequence[tuple[Any, ...]]):
    """The rows of the table: of every step, and of evaluations before the first. `annotations` tells by step what is
    to be said beside the numbers. Only steps of the range `between` are there, where one is given.

    It is of the moment when it is made: what the run tells later, or takes again, changes nothing in it.
    """

    def __init__(
        self, history: MetricHistory, annotations: Mapping[int, str], between: tuple[float, float] | None = None
    ) -> None:
        low, high = between or (-np.inf, np.inf)
        taken, held_out = history.steps["loss"].x, history.evaluation
        first, last = np.searchsorted(taken, low, "left"), np.searchsorted(taken, high, "right")
        self._evaluations = {
            int(x): y for x, y in zip(held_out.x.tolist(), held_out.y.tolist(), strict=True) if low <= x <= high
        }
        self._before = sorted(step for step in self._evaluations if not len(taken) or step < taken[0])
        self._steps = taken[first:last].copy()
        self._values = [(m, history.of(m).y[first:last] / m.scale) for m in METRICS.values()]
        self._places = [history.places[name].y[first:last].copy() for name in _PLACES]
        self._annotations = dict(annotations)

    def __len__(self) -> int:
        return len(self._before) + len(self._steps)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]
        at = index - len(self._before)
        step = self._before[index] if at < 0 else int(self._steps[at])
        values: list[float | None] = []
        for metric, column in self._values:
            values.append(float(column[at]) if at >= 0 else None)
            if metric.loss:
                values.append(self._evaluations.get(step))
        return (step, *values, self._annotations.get(step, ""))

    def as_text(self, separator: str = ",") -> str:
        """Return all rows with every figure of every number, and where in the run each step was; gaps are empty."""
        headings = [say("step"), *_PLACES.values(), *_headings(), say("what happened")]
        return "\n".join(separator.join(line) for line in (headings, *self._lines(separator))) + "\n"

    def _lines(self, separator: str) -> Iterator[Sequence[str]]:
        gap = [""] * len(self._before)
        columns = [[str(step) for step in (*self._before, *self._steps.astype(int).tolist())]]
        columns += [[*gap, *_figures(places)] for places in self._places]
        for metric, values in self._values:
            columns.append([*gap, *_figures(values)])
            if metric.loss:
                evaluated = {str(step): repr(loss) if loss == loss else "" for step, loss in self._evaluations.items()}
                columns.append([evaluated.get(step, "") for step in columns[0]])
        told = {str(step): _quoted(words, separator) for step, words in self._annotations.items()}
        columns.append([told.get(step, "") for step in columns[0]])
        return zip(*columns, strict=True)


def _figures(values: Floats) -> list[str]:
    return [repr(value) if value == value else "" for value in values.tolist()]


def _quoted(words: str, separator: str) -> str:
    """Return words as one field, in one line, whatever stands in them."""
    line = " ".join(words.split())
    return '"' + line.replace('"', '""') + '"' if separator in line or '"' in line else line


def _text_at(index: int) -> Callable[[Any], str]:
    return lambda row: value_text(row[index])


def _headings() -> list[str]:
    return [text for metric in METRICS.values() for text in (metric.column, *_HELD_OUT[: metric.loss])]
