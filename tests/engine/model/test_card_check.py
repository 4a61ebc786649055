"""A card that the driver has and the libraries cannot use: said before a run goes to the processor without a word."""

from collections.abc import Callable
from typing import Any

import pynvml
import pytest
import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.model.card_check import require_usable_card

without_a_card = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card that works")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that has a card."""

    def answer(value: Any) -> Callable[..., Any]:
        return lambda *_args: value

    for name, value in {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlSystemGetDriverVersion": "470.42",
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
    }.items():
        monkeypatch.setattr(pynvml, name, answer(value))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@without_a_card
@pytest.mark.usefixtures("driver")
def test_a_pytorch_for_the_processor_alone_is_told_with_what_to_do() -> None:
    with pytest.raises(StudioError, match=r"RTX 4090\) that cannot be used: the installed PyTorch") as caught:
        require_usable_card(RunConfig())
    assert caught.value.kind == "card_unusable"
    assert "pytorch.org" in caught.value.advice
    assert "hardware.gpus=cpu" in caught.value.advice


@without_a_card
@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("cuda_build", ["13.0"])
def test_a_driver_that_is_too_old_is_told_in_pytorchs_words(monkeypatch: pytest.MonkeyPatch, cuda_build: str) -> None:
    """What torch says of such a driver, as its source has it."""

    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(torch.version, "cuda", cuda_build)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    with pytest.raises(StudioError, match=r"driver 470\.42 is too old") as caught:
        require_usable_card(RunConfig())
    assert "found version 11040" in caught.value.detail


@without_a_card
@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("visible", ["", "-1"])
def test_who_hid_the_card_trains_on_the_processor(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    require_usable_card(RunConfig())


@without_a_card
def test_without_a_driver_there_is_nothing_to_say() -> None:
    require_usable_card(RunConfig())
