"""A smoothed curve begins at its values, looks back alone, and is the same however the values come."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.run.metric_history import Series
from qlora_studio.ui.curves.smoothing import MovingAverage, last_finite

_VALUES = st.lists(st.one_of(st.floats(-100, 100), st.none()), max_size=300)


def _series(values: list[float | None], start: int = 1) -> Series:
    series = Series()
    series.append(list(range(start, start + len(values))), values)
    return series


def _by_definition(values: list[float | None], weight: float) -> list[float]:
    """The weighted mean of all values so far, the weight falling by a factor with each: written out."""
    averages = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[:end] if value is not None]
        weights = [weight**age for age in range(len(known) - 1, -1, -1)]
        total = math.fsum(w * value for w, value in zip(weights, known, strict=True))
        averages.append(total / math.fsum(weights) if known else math.nan)
    return averages


@given(_VALUES, st.sampled_from([0.0, 0.6, 0.9, 0.99]))
def test_it_is_the_mean_of_all_before_with_fading_weights(values: list[float | None], weight: float) -> None:
    np.testing.assert_allclose(MovingAverage(weight).of(_series(values)), _by_definition(values, weight), atol=1e-9)


def test_it_begins_at_the_first_value_and_a_level_curve_stays_level() -> None:
    averages = MovingAverage(0.99).of(_series([5.0] * 200))
    np.testing.assert_allclose(averages, 5.0)


@given(_VALUES, st.integers(0, 300))
def test_what_comes_later_changes_nothing_before(values: list[float | None], cut: int) -> None:
    average, series = MovingAverage(0.9), _series(values[:cut])
    early = average.of(series).copy()
    more = values[cut:]
    series.append(list(range(1001, 1001 + len(more))), more)
    late = average.of(series)
    np.testing.assert_array_equal(late[: len(early)], early)
    np.testing.assert_allclose(late, MovingAverage(0.9).of(_series(values)), atol=1e-9)


def test_steps_that_are_taken_again_are_averaged_again() -> None:
    average, series = MovingAverage(0.9), _series([1.0] * 10)
    average.of(series)
    series.truncate_from(6)
    series.append(list(range(6, 11)), [9.0] * 5)
    expected: list[float | None] = [*[1.0] * 5, *[9.0] * 5]
    np.testing.assert_allclose(average.of(series), np.array(_by_definition(expected, 0.9)))


def test_another_series_of_the_same_steps_is_not_taken_for_the_first() -> None:
    average = MovingAverage(0.9)
    average.of(_series([1.0, 1.0]))
    np.testing.assert_allclose(average.of(_series([3.0, 3.0])), [3.0, 3.0])


@pytest.mark.parametrize(("values", "newest"), [([1.0, 2.0, None], 2.0), ([None], None), ([], None)])
def test_the_newest_value_that_is_one(values: list[float | None], newest: float | None) -> None:
    assert last_finite(_series(values).y) == newest
