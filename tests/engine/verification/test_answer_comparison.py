"""Where two greedy answers part, it is shown; and it is forgiven only where the tokens are about as likely."""

from pathlib import Path

import pytest
import torch

from qlora_studio.engine.verification.answers import _first_difference
from qlora_studio.engine.verification.measurement import lead
from tests.engine.families import load, make_base


@pytest.mark.parametrize(
    ("one", "other", "place"), [([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([4], [5], 0), ([], [1], 0)]
)
def test_the_first_difference_is_where_the_tokens_or_the_lengths_differ(
    one: list[int], other: list[int], place: int
) -> None:
    assert _first_difference(one, other) == place


def test_a_lead_is_over_the_token_that_was_wanted_and_not_over_the_second_best(tmp_path: Path) -> None:
    model = load(make_base(tmp_path / "base", "llama", initializer_range=0.3))
    with torch.no_grad():
        likely = torch.softmax(model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1].float(), dim=-1)
    best, _, third = likely.topk(3).indices.tolist()
    assert lead(model, [3, 4, 5], best) == 0.0
    assert lead(model, [3, 4, 5], third) == pytest.approx(float(likely[best] - likely[third]), abs=1e-6)
