"""The numbers behind one plot: a row for each x at which a curve has a value, made when it is looked at. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.reading import counted
from qlora_studio.ui.curves.scale import value_text
from qlora_studio.ui.kit.tables import Column


def plot_columns(plot: Plot) -> tuple[Column, ...]:
    """Return the columns: the x, then each curve by its name."""
    unit = f", {plot.unit}" if plot.unit else ""
    curves = [Column(curve.name + unit, _text_at(index), right=True) for index, curve in enumerate(plot.curves, 1)]
    return (Column(plot.x_title, lambda row: counted(plot, row[0]).removeprefix(f"{plot.x_title} ")), *curves)


class PlotRows(Sequence[tuple[Any, ...]]):
    """The rows of the table; where a curve has no value at an x, None."""

    def __init__(self, plot: Plot) -> None:
        self._curves = plot.curves
        places = np.sort(np.concatenate([np.empty(0), *(curve.x for curve in plot.curves)]))
        self._x = places[np.diff(places, prepend=-np.inf) > 0]  # numpy's own `unique` imports masked arrays

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: Any) -> Any:
        x = float(self._x[range(len(self))[index]])
        return (x, *(_value(curve, x) for curve in self._curves))


def _value(curve: Curve, x: float) -> float | None:
    at = int(np.searchsorted(curve.x, x))
    return float(curve.y[at]) if at < len(curve.x) and curve.x[at] == x else None


def _text_at(index: int) -> Callable[[Any], str]:
    return lambda row: value_text(row[index])
