"""What is more than a dense model in 16 bit, layer by layer: bases that are stored in 4 bits, adapters on experts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.model.adapted import load_base, make_trainable
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.engine.verification.passes import Pass, Passes, unmerged
from qlora_studio.engine.verification.states import StatesStore
from qlora_studio.engine.verification.streamed_adapter import streamed_adapter
from tests.engine.families import VOCABULARY, load, make_adapter, make_base
from tests.engine.mixtures import make_mixture
from tests.engine.model.test_expert_adapters import adapted_experts
from tests.engine.stored_base import in_4_bits
from tests.engine.verification.both_ways import Told, batches, both_ways, plain

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


def grown(folder: Path, base: Path) -> Path:
    """Save an adapter of a vocabulary that has grown."""
    model: Any = load(base)
    model.resize_token_embeddings(VOCABULARY + 16, mean_resizing=False)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, modules_to_save=["embed_tokens", "lm_head"])
    get_peft_model(model, lora).save_pretrained(str(folder))
    return folder


def test_what_cannot_be_streamed_is_loaded_whole_and_said_once_while_the_rest_comes_by_layers(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    words = make_adapter(tmp_path / "words", base, trainable_token_indices=[3, 7, 11])
    reasons = {grown(tmp_path / "grown", base): "other words than its base", words: "retrains single words"}
    for adapter, reason in reasons.items():
        told = Told()
        passes = Passes(batches(), told, StatesStore({"adapter": str(adapter)}))
        item = unmerged(base, adapter, dtype=torch.float32, device="cpu")
        for _ in range(2):
            assert passes.run(item, ask=lambda model: "asked").asked == "asked"
        assert len(told.warnings) == 1 and reason in told.warnings[0]
        assert passes.run(plain(base), ask=lambda model: "asked").asked is None and told.layers == [1, 2]


def test_what_can_neither_be_streamed_nor_fits_is_refused_in_words(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    item = unmerged(base, grown(tmp_path / "grown", base), dtype=torch.float32, device="cpu")
    passes = Passes(batches(), Told(), StatesStore({"run": "too large"}))
    with pytest.raises(StudioError, match=r"loaded whole \(its adapter has other words than its base\), which takes 4"):
        passes.run(replace(item, size=4 << 50))


def test_a_model_that_cannot_be_asked_for_answers_is_told_of_and_not_the_end(tmp_path: Path) -> None:
    def question(model: Any) -> Any:
        return torch.ones(2, dtype=torch.int64).exponential_()  # which torch does not implement for whole numbers

    told = Told()
    passes = Passes(batches(), told, None)
    assert passes.ask(plain(make_base(tmp_path / "base", "llama")), question) is None
    assert len(told.warnings) == 1 and "no answers of its own" in told.warnings[0]
