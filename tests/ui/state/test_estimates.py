"""What the window knows of a draft before it starts: its memory, its speed, and how it would be faster."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.quantity import GIB
from qlora_studio.ui.state.estimates import EstimateControl, EstimatedCard

CONFIG = RunConfig().with_value("model.source", "starter").with_value("training.gradient_checkpointing", "on")
CARD = EstimatedCard(free_bytes=23 * GIB, spec=find_gpu("RTX 4090"))


@pytest.fixture
def estimates(
    qapp: QApplication, wait_until: Callable[[Callable[[], object]], None], studio_home: Path
) -> EstimateControl:
    control = EstimateControl()
    control.take_card(CARD)
    control.take_config(CONFIG)
    wait_until(lambda: control.estimate)
    return control


def test_a_rate_is_predicted_beside_the_memory_and_told_in_the_note(estimates: EstimateControl) -> None:
    assert estimates.estimate is not None
    assert estimates.rate is not None
    assert estimates.rate.words in estimates.estimate.notes[-1]


def test_faster_settings_are_found_and_are_the_fastest_once_they_are_taken(
    estimates: EstimateControl, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    found = estimates.fastest()
    assert found is not None
    assert found.gain is not None
    assert found.gain > 1.05
    estimates.take_config(found.proposal.config)
    assert estimates.rate is None  # the one that is known is of the draft before
    wait_until(lambda: estimates.rate)
    assert estimates.rate == found.rate
    again = estimates.fastest()
    assert again is not None
    assert again.proposal.changes == {}


@pytest.mark.parametrize(
    "card",
    [
        EstimatedCard(),
        EstimatedCard(free_bytes=23 * GIB, spec=find_gpu("NVIDIA GeForce RTX 4090 Laptop GPU")),
        EstimatedCard(free_bytes=GIB // 4, spec=find_gpu("RTX 4090")),
    ],
    ids=["no card", "of unknown speed", "too small"],
)
def test_no_rate_is_invented(
    estimates: EstimateControl, wait_until: Callable[[Callable[[], object]], None], card: EstimatedCard
) -> None:
    estimates.take_card(card)
    wait_until(lambda: estimates.rate is None)
    assert estimates.estimate is not None
    assert not any("tokens/s" in note for note in estimates.estimate.notes)


def test_without_a_card_the_estimate_is_of_a_card_as_on_the_command_line(
    estimates: EstimateControl, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    estimates.take_card(EstimatedCard())
    wait_until(lambda: estimates.estimate)
    assert estimates.estimate is not None
    assert estimates.estimate.context_bytes == 450 << 20


def test_cards_that_are_too_small_alone_share_the_base_out_and_the_estimate_says_so(
    estimates: EstimateControl, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    few = EstimatedCard(free_bytes=GIB // 4, spec=find_gpu("RTX 4090"), cards=2)
    estimates.take_card(few)
    estimates.take_config(CONFIG.with_value("hardware.gpus", "all"))
    wait_until(lambda: estimates.estimate and "shared out over 2 cards" in " ".join(estimates.estimate.notes))
