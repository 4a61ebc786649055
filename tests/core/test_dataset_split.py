"""The held-out part: as large as asked, free of duplicates of training rows, the same for the same seed."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.core.dataset_split import held_out

KEYS = st.lists(st.integers(0, 30).map(lambda number: b"%d" % number), max_size=60)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(keys=KEYS, share=st.floats(0.01, 0.5), seed=st.integers(0, 2**70))
def test_equal_rows_stay_on_one_side_and_neither_side_is_empty(keys: list[bytes], share: float, seed: int) -> None:
    held = held_out(keys, share, seed)
    out = {key for key, is_out in zip(keys, held, strict=True) if is_out}
    left = {key for key, is_out in zip(keys, held, strict=True) if not is_out}
    assert len(held) == len(keys)
    assert not out & left
    assert held == held_out(keys, share, seed)
    if len(set(keys)) >= 2:
        assert out and left
        assert sum(held) <= max(round(share * len(keys)), 1, min(Counter(keys).values()))
    else:
        assert not out


def test_the_share_is_met_where_rows_differ() -> None:
    keys = [b"%d" % number for number in range(1000)]
    assert sum(held_out(keys, 0.1, 42)) == 100
    assert held_out(keys, 0.1, 42) != held_out(keys, 0.1, 43)
    assert not any(held_out(keys, 0.0, 42))


def test_the_order_of_the_rows_is_of_no_account() -> None:
    keys = [b"%d" % number for number in range(100)]
    forward = {key for key, is_out in zip(keys, held_out(keys, 0.2, 1), strict=True) if is_out}
    backward = {key for key, is_out in zip(keys[::-1], held_out(keys[::-1], 0.2, 1), strict=True) if is_out}
    assert forward == backward
