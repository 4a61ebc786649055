"""Cards that cannot be trained on, and what the person is told of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.errors import FailureKind
from tests.engine.training_run import make_run, run_to_end

Machine = Callable[..., None]


@pytest.mark.parametrize(
    ("card", "words", "advice"),
    [
        ("old_card", "GTX 1080) that cannot be used: PyTorch", "RTX 20 series or newer"),
        ("old_driver", "the driver 470.256.02 is too old", "newest driver"),
    ],
)
def test_a_card_or_a_driver_that_is_too_old_is_refused_with_what_to_do(
    machine: Machine, tiny_llama: Path, tmp_path: Path, card: str, words: str, advice: str
) -> None:
    machine(card)

    failure = run_to_end(make_run(tmp_path / "runs", tiny_llama)).failure

    assert failure is not None and failure.kind == FailureKind.CARD_UNUSABLE
    assert words in failure.message
    assert advice in failure.advice
