"""Whatever a run told, what is shown of it is a range with an axis: also where its values differ by rounding alone."""

import math
import subprocess
import sys

import numpy as np
import pytest
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


@given(st.lists(st.floats(0.5, 100.0), min_size=41, max_size=300))
def test_the_range_of_a_noisy_curve_is_that_of_99_in_100_of_its_values(values: list[float]) -> None:
    told = np.array(values)
    curve = Curve("train", np.arange(1.0, len(told) + 1), told, smooth=np.full(len(told), told.mean()))
    low, high = y_extent(Plot("Loss", (curve,)), (0.0, len(told)))
    least, most = np.interp([0.005, 0.995], np.linspace(0, 1, len(told)), np.sort(told))
    shown = min(least, told.mean()), max(most, told.mean())
    if shown[1] - shown[0] > 1e-6:
        air = 0.06 * (shown[1] - shown[0])
        assert (low, high) == pytest.approx((max(0.0, shown[0] - air), shown[1] + air))


def test_what_is_drawn_and_listed_of_curves_imports_no_masked_arrays() -> None:
    asked = """
import sys, numpy as np
from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.extent import y_extent
from qlora_studio.ui.curves.numbers import PlotRows
many = np.arange(100.0)
plot = Plot("Loss", (Curve("train", many, many, smooth=many), Curve("held out", many[::2], many[::2])))
assert y_extent(plot, (0.0, 99.0))[1] > 98
assert len(PlotRows(plot)) == 100
print("numpy.ma" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
