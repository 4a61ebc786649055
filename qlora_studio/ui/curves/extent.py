"""Which part of the axes is shown when nobody chose one: all of x, and of y what the curves there need. Pure."""

import math
from collections.abc import Iterable

import numpy as np

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.ui.curves.curve import Curve, Plot

Range = tuple[float, float]
_FEW = 40  # points, of which none counts as an outlier
_PAD = 0.06
_NOTHING = 1e-200  # what is smaller is 0: its own parts would be no numbers any more
FLAT = 1e-9  # of a value: what differs by less does so by rounding, and no axis can tell it apart


def x_extent(plots: Iterable[Plot]) -> Range:
    """Return the x range that shows all of several plots."""
    shown = list(plots)
    ends = [float(curve.x[-1]) for plot in shown for curve in plot.curves if len(curve.x)]
    starts = [float(curve.x[0]) for plot in shown for curve in plot.curves if len(curve.x)]
    low = min(0.0, *starts) if starts else 0.0
    high = max([plot.end for plot in shown] + ends, default=1.0)
    return low, high if high > low else low + 1.0


def y_extent(plot: Plot, shown: Range) -> Range:
    """Return the y range for what lies in an x range, with some air. Single outliers do not flatten the rest."""
    parts = [values for curve in plot.shown for values in _telling(curve, shown, plot.log)]
    values = np.concatenate(parts) if parts else np.empty(0)
    if not len(values):
        return (0.1, 1.0) if plot.log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if plot.log:
        air = max((high / low) ** _PAD, 1.02)
        return low / air, high * air
    largest = max(abs(low), abs(high))
    if high - low > FLAT * largest + _NOTHING:
        air = _PAD * (high - low)
    else:
        air = 0.05 * largest if largest > _NOTHING else 1.0
    return (max(0.0, low - air) if low >= 0 else low - air), high + air


def zoomed(shown: Range, around: float, factor: float, *, log: bool = False) -> Range:
    """Return a range that is `factor` times as wide, with `around` where it was."""
    if log:
        low, high = zoomed((math.log10(shown[0]), math.log10(shown[1])), math.log10(around), factor)
        return 10.0**low, 10.0**high
    return around - (around - shown[0]) * factor, around + (shown[1] - around) * factor


def moved(shown: Range, by: float, whole: Range) -> Range:
    """Return a range as wide as before, moved by some way, but not out of the whole."""
    by = max(min(by, whole[1] - shown[1]), whole[0] - shown[0])
    return shown[0] + by, shown[1] + by


def _telling(curve: Curve, shown: Range, log: bool) -> Iterable[Floats]:
    """Yield the values that the range is made for."""
    first = int(np.searchsorted(curve.x, shown[0], "left"))
    last = int(np.searchsorted(curve.x, shown[1], "right"))
    for values in (curve.y, curve.smooth):
        if values is None:
            continue
        part = values[first:last]
        known = part[np.isfinite(part) & ((part > _NOTHING) | (not log))]
        is_noisy = values is curve.y and curve.smooth is not None and len(known) > _FEW
        yield _without_outliers(known) if is_noisy else known


def _without_outliers(values: Floats) -> Floats:
    """Return the 0.5th and the 99.5th percentile. Numpy's own way imports masked arrays, in a run's first paint."""
    places = np.array([0.005, 0.995]) * (len(values) - 1)
    below = places.astype(np.intp)
    above = np.minimum(below + 1, len(values) - 1)
    ranked = np.partition(values, np.sort(np.concatenate([below, above])))
    return ranked[below] + (places - below) * (ranked[above] - ranked[below])
