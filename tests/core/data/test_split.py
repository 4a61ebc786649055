"""What becomes of rows: the held-out part has no duplicate of a training row, weights and dropped duplicates count."""

from collections import Counter

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.core.data.split import RowPlan, held_out, plan_rows

KEYS = st.lists(st.integers(0, 30), max_size=60).map(lambda keys: numpy.array(keys, dtype=numpy.uint64))


def distinct(count: int) -> "numpy.typing.NDArray[numpy.uint64]":
    return numpy.arange(count, dtype=numpy.uint64)


def plan(
    near: "numpy.typing.NDArray[numpy.uint64]",
    sizes: list[int],
    weights: list[float],
    *,
    seed: int = 1,
    **kinds: object,
) -> RowPlan:
    sources = numpy.repeat(numpy.arange(len(sizes)), sizes)
    kinds = {"duplicates": "keep", "share": 0.1, **kinds}
    return plan_rows(distinct(len(near)), near, sources, weights=weights, seed=seed, **kinds)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(keys=KEYS, share=st.floats(0.01, 0.5), seed=st.integers(0, 2**70))
def test_equal_rows_stay_on_one_side_and_neither_side_is_empty(
    keys: "numpy.typing.NDArray[numpy.uint64]", share: float, seed: int
) -> None:
    held = held_out(keys, share, seed)
    out, left = set(keys[held].tolist()), set(keys[~held].tolist())
    assert len(held) == len(keys)
    assert not out & left
    assert (held == held_out(keys, share, seed)).all()
    if len(out | left) >= 2:
        assert out and left
        assert held.sum() <= max(round(share * len(keys)), 1, min(Counter(keys.tolist()).values()))
    else:
        assert not out


def test_the_share_is_met_where_rows_differ() -> None:
    keys = distinct(1000)
    assert held_out(keys, 0.1, 42).sum() == 100
    assert (held_out(keys, 0.1, 42) != held_out(keys, 0.1, 43)).any()
    assert not held_out(keys, 0.0, 42).any()


def test_the_order_of_the_rows_is_of_no_account() -> None:
    keys = distinct(100)
    forward, backward = keys[held_out(keys, 0.2, 1)], keys[::-1][held_out(keys[::-1], 0.2, 1)]
    assert sorted(forward) == sorted(backward)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    near=KEYS.filter(len),
    cut=st.floats(0, 1),
    weights=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
    duplicates=st.sampled_from(["keep", "drop_exact", "drop_near"]),
)
def test_whatever_the_weights_a_near_duplicate_is_never_on_both_sides_and_each_row_has_one_fate(
    near: "numpy.typing.NDArray[numpy.uint64]", cut: float, weights: tuple[float, float], duplicates: str
) -> None:
    first = int(cut * len(near))
    found = plan(near, [first, len(near) - first], list(weights), duplicates=duplicates)
    fates = found.repeats.astype(int) + found.not_drawn + found.held_out + (found.copies > 0)
    assert (fates == 1).all()
    assert not set(near[found.held_out].tolist()) & set(near[found.copies > 0].tolist())
    assert (found.copies > 0).any()


def test_a_weight_of_a_half_draws_half_of_the_rows_and_the_seed_says_which() -> None:
    found, other = (plan(distinct(2000), [1000, 1000], [0.5, 1], share=0.0, seed=seed) for seed in (1, 2))
    assert found.copies[:1000].sum() == 500 and found.not_drawn[:1000].sum() == 500
    assert (found.copies[1000:] == 1).all()
    assert (found.copies != other.copies).any()


def test_a_weight_above_one_repeats_training_rows_and_never_held_out_ones() -> None:
    found = plan(distinct(1000), [1000], [2.5])
    assert found.held_out.sum() == 100
    assert Counter(found.copies.tolist()) == {0: 100, 2: 450, 3: 450}


def test_of_dropped_duplicates_the_first_row_stays() -> None:
    near = numpy.array([5, 7, 5, 5, 9], dtype=numpy.uint64)
    assert plan(near, [2, 3], [1, 1], duplicates="drop_near").repeats.tolist() == [False, False, True, True, False]
    assert not plan(near, [2, 3], [1, 1], duplicates="drop_exact").repeats.any()
