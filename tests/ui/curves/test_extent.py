"""Whatever a run told, what is shown of it is a range with an axis: also where its values differ by rounding alone."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.extent import y_extent
from qlora_studio.ui.curves.scale import log_texts, tick_texts, ticks

_VALUES = st.floats(-1e100, 1e100)  # what a run can tell


def _plot(values: list[float], *, log: bool = False) -> Plot:
    return Plot("Loss", (Curve("train", np.arange(1.0, len(values) + 1), np.array(values)),), log=log)


def _axis(plot: Plot) -> tuple[str, ...]:
    low, high = y_extent(plot, (0.0, 100.0))
    return (log_texts if plot.log else tick_texts)(ticks(low, high, 5, log=plot.log))


@given(st.lists(_VALUES, min_size=1, max_size=8), st.booleans())
def test_the_values_of_every_curve_have_an_axis(values: list[float], log: bool) -> None:
    texts = _axis(_plot(values, log=log))
    assert len(texts) >= 2 and len(set(texts)) == len(texts)


@given(_VALUES, st.integers(0, 200), st.booleans())
def test_a_value_that_never_changes_has_an_axis_whatever_rounding_makes_of_it(
    value: float, roundings: int, log: bool
) -> None:
    beside = value
    for _ in range(roundings):
        beside = math.nextafter(beside, math.inf)
    texts = _axis(_plot([value, beside, value], log=log))
    assert len(texts) >= 2 and len(set(texts)) == len(texts)
