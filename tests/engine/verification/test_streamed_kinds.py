"""What is more than a dense model in 16 bit, layer by layer: bases that are stored in 4 bits, adapters on experts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.model.adapted import load_base, make_trainable
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.engine.verification.passes import Pass, unmerged
from qlora_studio.engine.verification.streamed_adapter import streamed_adapter
from tests.engine.families import make_base
from tests.engine.mixtures import make_mixture
from tests.engine.model.test_expert_adapters import adapted_experts
from tests.engine.stored_base import in_4_bits
from tests.engine.verification.both_ways import both_ways

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_CONFIG = RunConfig()
_DEVICE = choose_device(_CONFIG, QUIET)


def trained(base: Path, adapter: Path | None = None) -> Pass:
    """A base as training loads it, with the adapter where there is one."""

    def load() -> Any:
        return load_base(base, _CONFIG, _DEVICE)

    def whole() -> Any:
        return with_saved_adapter(load(), adapter).eval() if adapter else load()

    streamed = (lambda: streamed_adapter(adapter, as_trained=True)) if adapter else None
    return Pass("trained", whole, load, _DEVICE.name, streamed, lambda model: make_trainable(model, _DEVICE))


@pytest.mark.parametrize(("family", "double"), [("llama", True), ("gemma2", False)])
def test_a_base_that_is_stored_in_4_bits_comes_as_it_is_stored(family: str, double: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family, dtype=torch.bfloat16)
    whole, streamed = both_ways(trained(in_4_bits(base, tmp_path / "stored", double=double)))
    assert whole == streamed


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", pytest.param("deepseek_v3", marks=pytest.mark.slow)])
def test_experts_come_with_their_adapters_in_4_and_in_16_bit(family: str, tmp_path: Path) -> None:
    base, adapter = make_mixture(tmp_path / "base", family), tmp_path / "adapter"
    adapted_experts(base).save_pretrained(str(adapter))
    for item in (unmerged(base, adapter, dtype=torch.float32, device="cpu"), trained(base, adapter)):
        whole, streamed = both_ways(item, (True, False))
        assert whole == streamed
        assert whole.pairs["True", "False"].divergence > 1e-4
