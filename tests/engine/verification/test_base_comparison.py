"""Which base is better is said only where the rows leave no doubt."""

import math

import pytest

from qlora_studio.engine.verification.base_comparison import better_base
from qlora_studio.engine.verification.measurement import mean_loss, paired_difference


def test_a_difference_is_paired_by_row_so_that_hard_rows_are_no_noise() -> None:
    first = [(10.0 * n, 10) for n in range(1, 9)]
    second = [(nats - 1.0, count) for nats, count in first]
    gain, error = paired_difference(first, second)
    assert gain == pytest.approx(0.1)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_rows_that_disagree_make_a_difference_uncertain() -> None:
    first = [(20.0, 10)] * 4
    gain, error = paired_difference(first, [(18.0, 10), (22.0, 10), (18.0, 10), (20.0, 10)])
    assert gain == pytest.approx(0.05)
    assert error > gain / 2


@pytest.mark.parametrize(
    ("gain", "error", "better"),
    [(0.0133, 0.003, "nf4"), (0.0133, 0.01, "original"), (0.002, 0.0001, "original"), (-0.1, 0.01, "original")],
)
def test_the_original_base_is_kept_unless_the_other_is_better_beyond_doubt(
    gain: float, error: float, better: str
) -> None:
    assert better_base(gain, error) == better


def test_without_rows_nothing_is_claimed() -> None:
    assert mean_loss([]) is None
    assert paired_difference([(1.0, 2)], [(0.5, 2)]) == (0.25, math.inf)
    assert better_base(*paired_difference([(1.0, 2)], [(0.5, 2)])) == "original"
