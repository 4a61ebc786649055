"""Long series are thinned for plots, and every peak stays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.run.metric_history import decimated


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=400), st.integers(2, 50))
def test_a_thinned_series_keeps_the_lowest_and_the_highest_of_each_stretch(values: list[float], points: int) -> None:
    x, y = np.arange(len(values), dtype=float), np.array(values, dtype=float)
    few_x, few_y = decimated(x, y, points)
    if len(values) <= points:
        assert len(few_x) == len(values)
        return
    assert len(few_x) <= 2 * points
    assert (np.diff(few_x) > 0).all()
    np.testing.assert_array_equal(few_y, y[few_x.astype(int)])
    size = -(-len(values) // (points // 2))
    for start in range(0, len(values), size):
        stretch = y[start : start + size][~np.isnan(y[start : start + size])]
        kept = few_y[(few_x >= start) & (few_x < start + size)]
        assert set(kept) == ({stretch.min(), stretch.max()} if len(stretch) else set())
