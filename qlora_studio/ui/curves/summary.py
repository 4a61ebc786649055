"""A plot in one sentence a curve, for those who do not see it: its newest value, where, and whether it falls. Pure."""

import numpy as np

from qlora_studio.core.words import say
from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.reading import counted
from qlora_studio.ui.curves.scale import value_text

_LEAST_POINTS, _LOOKED_BACK = 5, 10  # a curve falls or rises by what it did over its last tenth
_LEVEL = 0.01  # of a value: what changes by less is level


def summary(plot: Plot) -> str:
    """Return what every curve of a plot comes to, and which are hidden."""
    if plot.is_empty:
        return plot.nothing
    hidden = [curve.name for curve in plot.curves if curve not in plot.shown]
    told = [words for curve in plot.shown if (words := _told(curve, plot))]
    return "; ".join([*told, *(say("{name} is hidden", name=name) for name in hidden)])


def _told(curve: Curve, plot: Plot) -> str:
    values = curve.y if curve.smooth is None else curve.smooth
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return ""
    last, back = known[-1], known[-1 - min(len(known) - 1, max(_LEAST_POINTS, len(known) // _LOOKED_BACK))]
    value, before = float(values[last]), float(values[back])
    text = value_text(value) + (f" {plot.unit}" if plot.unit else "")
    words = {"name": curve.name, "value": text, "place": counted(plot, float(curve.x[last]))}
    if last == back:
        return say("{name} {value} at {place}", **words)
    if abs(value - before) <= _LEVEL * max(abs(value), abs(before)):
        return say("{name} {value} at {place}, level", **words)
    if value < before:
        return say("{name} {value} at {place}, falling", **words)
    return say("{name} {value} at {place}, rising", **words)
