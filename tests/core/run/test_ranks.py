"""The batches of a step are dealt evenly to the cards of a run, or the run is refused with what would be even."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.ranks import mended_shares, require_shares


def _config(batch: int, accumulation: int) -> RunConfig:
    config = RunConfig().with_value("training.batch_size", batch)
    return config.with_value("training.gradient_accumulation", accumulation)


@pytest.mark.parametrize(("accumulation", "ranks"), [(8, 1), (8, 2), (8, 8), (6, 3)])
def test_batches_that_can_be_dealt_are(accumulation: int, ranks: int) -> None:
    require_shares(_config(2, accumulation), ranks)


@pytest.mark.parametrize(
    ("batch", "accumulation", "ranks", "advice"),
    [
        (16, 1, 2, "training.batch_size=8 and training.gradient_accumulation=2: a step has as many rows"),
        (2, 9, 2, "training.batch_size=1 and training.gradient_accumulation=18"),
        (2, 8, 3, "training.gradient_accumulation a multiple of 3"),
    ],
)
def test_others_are_refused_with_what_keeps_the_rows_of_a_step(
    batch: int, accumulation: int, ranks: int, advice: str
) -> None:
    with pytest.raises(StudioError, match=f"accumulation of this run, {accumulation}, .* to {ranks} cards") as caught:
        require_shares(_config(batch, accumulation), ranks)
    assert advice in caught.value.advice


@pytest.mark.parametrize(
    ("batch", "accumulation", "ranks", "mended"),
    [(16, 1, 2, (8, 2)), (2, 9, 2, (1, 18)), (4, 6, 4, (3, 8)), (2, 8, 3, (2, 9)), (1, 1, 4, (1, 4))],
)
def test_what_mends_them_takes_no_more_rows_at_once(
    batch: int, accumulation: int, ranks: int, mended: tuple[int, int]
) -> None:
    """And as many in a step, where that can be dealt evenly at all."""
    assert mended_shares(_config(batch, accumulation), ranks) == mended
    require_shares(_config(*mended), ranks)
