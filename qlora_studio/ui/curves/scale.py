"""The numbers at an axis: at 1, 2 or 5 times a power of ten, two of them at least however narrow the range. Pure."""

import math
from collections.abc import Sequence
from itertools import count, pairwise

_NICE = (1, 2, 5)
_LARGE = ((1e9, "B"), (1e6, "M"))


def ticks(low: float, high: float, most: int, *, log: bool = False, whole: bool = False) -> tuple[float, ...]:
    """Return the values to write at an axis from `low` to `high` where `most` have room: two at least."""
    if not high > low:
        return ()
    if log and high / low >= 10:
        return _decades(low, high, max(2, most))
    power = math.floor(math.log10((high - low) / max(2, most)))
    spacings = [factor * 10.0**exponent for exponent in range(power + 1, power - 3, -1) for factor in reversed(_NICE)]
    found: tuple[float, ...] = ()
    for spacing in spacings:
        if whole and spacing < 1:
            break
        finer = _multiples(low, high, spacing)
        if len(finer) > most and len(found) >= 2:
            break
        found = finer
    return found


def tick_texts(values: Sequence[float]) -> tuple[str, ...]:
    """Return the numbers of one axis: as many decimals each as tell neighbours apart, so that they line up."""
    if not values:
        return ()
    largest = max(abs(value) for value in values)
    spacing = min((after - before for before, after in pairwise(sorted(values))), default=largest or 1.0)
    if 0 < largest < 1e-3:
        return tuple(_with_power(value, spacing) for value in values)
    divisor, letter = next(((size, word) for size, word in _LARGE if largest >= size), (1.0, ""))
    decimals = min(12, max(0, -math.floor(math.log10(spacing / divisor) + 1e-9)))
    unit = f" {letter}" if letter else ""
    return tuple(f"{value / divisor:,.{decimals}f}{unit}" if value or not unit else "0" for value in values)


def log_texts(values: Sequence[float]) -> tuple[str, ...]:
    """Return the numbers of a logarithmic axis, each as briefly as it can be."""
    return tuple(_brief(value) for value in values)


def value_text(value: float | None) -> str:
    """Return a value with four figures, so that a column of them lines up; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e15:
        mantissa, _, power = f"{value:.3e}".partition("e")
        return f"{mantissa}e{int(power)}"
    figures = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, 3 - figures)}f}"


def _brief(value: float) -> str:
    mantissa, _, power = f"{value:.3e}".partition("e")
    if not 1e-3 <= abs(value) < 1e6:
        return f"{float(mantissa):g}e{int(power)}"
    return f"{float(f'{value:.4g}'):,.10g}"


def _multiples(low: float, high: float, spacing: float) -> tuple[float, ...]:
    slack = 1e-9 * (high - low) / spacing
    first, last = math.ceil(low / spacing - slack), math.floor(high / spacing + slack)
    inverse = round(1 / spacing) if spacing < 1 else 0  # 3 / 10 is 0.3, 3 * 0.1 is not
    return tuple(index / inverse if inverse else index * spacing for index in range(first, last + 1))


def _decades(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return values at even ratios: 1, 2 and 5 of each power of ten where they have room, else every n-th power."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [value for power in powers for value in (10.0**power * f for f in _NICE) if low <= value <= high]
    if len(inside) <= most:
        return tuple(inside)
    for every in count(1):
        found = tuple(10.0**power for power in powers if power % every == 0 and low <= 10.0**power <= high)
        if len(found) <= most:
            return found if len(found) >= 2 else (inside[0], inside[-1])
    raise AssertionError


def _with_power(value: float, spacing: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, math.floor(math.log10(abs(value)) + 1e-9) - math.floor(math.log10(spacing) + 1e-9))
    mantissa, _, power = f"{value:.{decimals}e}".partition("e")
    return f"{mantissa}e{int(power)}"
