"""An axis always has numbers: at least two, none twice, in the range, at the places that they name."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qlora_studio.ui.curves.scale import log_texts, tick_texts, ticks, value_text

_MOST = st.integers(1, 20)
_LOW, _WIDTH = st.floats(-1e6, 1e6), st.floats(1e-7, 1e7)


@given(_LOW, _WIDTH, _MOST)
def test_an_axis_has_two_different_numbers_at_least_and_no_crowd(low: float, width: float, most: int) -> None:
    assume(width > 1e-9 * abs(low))
    high = low + width
    values = ticks(low, high, most)
    texts = tick_texts(values)
    assert 2 <= len(values) <= max(5, most)
    assert len(set(texts)) == len(texts)
    assert all(low - 1e-6 * width <= value <= high + 1e-6 * width for value in values)


@given(st.floats(0, 1e5), st.floats(2, 1e6), _MOST)
def test_steps_are_numbered_by_whole_numbers(low: float, width: float, most: int) -> None:
    values = ticks(low, low + width, most, whole=True)
    assert len(values) >= 2
    assert all(value == int(value) for value in values)


@given(st.floats(-9, 6), st.floats(0.01, 12), _MOST)
def test_a_logarithmic_axis_has_two_different_numbers_too(power: float, decades: float, most: int) -> None:
    low, high = 10.0**power, 10.0 ** (power + decades)
    values = ticks(low, high, most, log=True)
    texts = log_texts(values)
    assert len(values) >= 2 and len(set(texts)) == len(texts)
    assert all(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in values)


@given(_LOW, _WIDTH)
def test_a_number_says_where_it_stands(low: float, width: float) -> None:
    assume(width > 1e-4 * abs(low))
    for value, text in zip(values := ticks(low, low + width, 6), tick_texts(values), strict=True):
        factor = {"M": 1e6, "B": 1e9}.get(text[-1], 1.0)
        said = float(text.rstrip(" MB").replace(",", "")) * factor
        assert math.isclose(said, value, rel_tol=1e-9, abs_tol=1e-4 * width)


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (0, 790, 8, ("0", "100", "200", "300", "400", "500", "600", "700")),
        (0.6, 2.3, 4, ("1.0", "1.5", "2.0")),
        (0, 2e-4, 5, ("0", "5e-5", "1.0e-4", "1.5e-4", "2.0e-4")),
        (0.99999, 1.00001, 3, ("0.99999", "1.00000", "1.00001")),
        (0, 3.2e6, 4, ("0", "1 M", "2 M", "3 M")),
        (100_000, 100_004, 5, ("100,000", "100,001", "100,002", "100,003", "100,004")),
    ],
)
def test_numbers_line_up(low: float, high: float, most: int, texts: tuple[str, ...]) -> None:
    assert tick_texts(ticks(low, high, most)) == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (2310.4, "2,310"),
        (0.85314, "0.8531"),
        (1.5e-4, "1.500e-4"),
        (0.0, "0.000"),
        (-3.0, "-3.000"),
    ],
)
def test_a_value_has_four_figures(value: float | None, text: str) -> None:
    assert value_text(value) == text
