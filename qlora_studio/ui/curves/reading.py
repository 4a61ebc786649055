"""What the crosshair reads: the place, the value of every curve there, and the words of the marks beside it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qlora_studio.core.words import say
from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.scale import value_text


@dataclass(frozen=True)
class ReadValue:
    """A line of the reading: whose value it is, and where it was taken if not at the crosshair (`is_here`) itself."""

    name: str
    text: str
    value: float
    token: str
    line: str
    is_here: bool = True
    is_strong: bool = True


@dataclass(frozen=True)
class Reading:
    """What is read at an x."""

    x: float
    place: tuple[str, ...]
    values: tuple[ReadValue, ...]
    words: tuple[str, ...] = ()

    def as_text(self) -> str:
        """Return all of it in one line, for screen readers."""
        return "; ".join([*self.place, *(f"{value.name} {value.text}" for value in self.values), *self.words])


def nearest_x(plots: Iterable[Plot], x: float) -> float | None:
    """Return the x of the nearest point of any curve, or None where there is no point."""
    near = [_nearest(curve, x) for plot in plots for curve in plot.shown if len(curve.x)]
    return min(near, key=lambda other: abs(other - x)) if near else None


def neighbour_x(plots: Iterable[Plot], x: float, by: int) -> float | None:
    """Return the x of the point `by` points on, on the curve that has most of them."""
    curves = [curve for plot in plots for curve in plot.shown if len(curve.x)]
    if not curves:
        return None
    longest = max(curves, key=lambda curve: len(curve.x)).x
    at = int(np.searchsorted(longest, x, "left"))
    return float(longest[min(max(at + by, 0), len(longest) - 1)])


def reading(plot: Plot, x: float, reach: float = 0.0) -> Reading:
    """Return what a plot says at `x`; marks are told within `reach` on either side."""
    values = [value for curve in plot.shown for value in _values(curve, x, plot)]
    words = dict.fromkeys(mark.words for mark in plot.marks if mark.words and abs(mark.x - x) <= reach)
    place = plot.place(x) if plot.place is not None else (counted(plot, x),)
    return Reading(x, place, tuple(values), tuple(words)[:4])


def counted(plot: Plot, x: float) -> str:
    """Return an x with what it counts."""
    return f"{plot.x_title} {x:,.0f}" if plot.whole else f"{plot.x_title} {value_text(x)}"


def _values(curve: Curve, x: float, plot: Plot) -> Iterable[ReadValue]:
    """Yield the value at x, or the last one before it with its place, and the average."""
    index = int(np.searchsorted(curve.x, x, "right")) - 1
    if index < 0:
        return
    unit = f" {plot.unit}" if plot.unit else ""
    at = float(curve.x[index])
    where = "" if at == x else f", {counted(plot, at)}"
    for values, name in ((curve.smooth, say("{name}, smoothed", name=curve.name)), (curve.y, curve.name)):
        if values is not None:
            value = float(values[index])
            strong = values is curve.smooth or curve.smooth is None
            text = value_text(value) + unit
            yield ReadValue(name + where, text, value, curve.token, curve.line, not where, strong)


def _nearest(curve: Curve, x: float) -> float:
    index = int(np.searchsorted(curve.x, x))
    sides = curve.x[max(0, index - 1) : index + 1]
    return float(min(sides, key=lambda other: abs(other - x)))
