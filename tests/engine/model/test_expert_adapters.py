"""Adapters on stacked experts in 4 bit: what plain peft computes on the unpacked ones, and reads from a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel, get_peft_model_state_dict
from torch.nn.utils import parametrize

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.loading import load_plain
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from tests.engine.families import load, logits
from tests.engine.mixtures import EACH, make_mixture

_DEVICE = Device("cpu", torch.float32, "adamw_torch", True)
_EXPERTS = RunConfig().with_value("lora.experts", True)
_IDS = torch.arange(3, 27).reshape(1, -1)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def adapted_experts(base: Path, config: RunConfig = _EXPERTS) -> Any:
    """Return a base in 4 bit with adapters that do something."""
    model = attach_adapters(load_base(base, config, _DEVICE), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


def unpacked(base: Path) -> Any:
    """Return a base in 16 bit (fp32 here) with the numbers that its 4-bit weights stand for."""
    plain, packed = load(base), load_base(base, RunConfig(), _DEVICE)
    with torch.no_grad():
        for path, (module, name) in stacked_experts(packed).items():
            plain.get_parameter(path).copy_(getattr(module, name))
        for path, module in packed.named_modules():
            if isinstance(module, Linear4bit):
                weight: Any = module.weight
                plain.get_parameter(f"{path}.weight").copy_(dequantize_4bit(weight.data, weight.quant_state))
    return plain


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    model(input_ids=_IDS, labels=_IDS, use_cache=False).loss.backward()
    return {name: item.grad for name, item in model.named_parameters() if item.grad is not None}


@pytest.mark.parametrize("family", EACH)
@pytest.mark.parametrize("experts", [False, True])
def test_plain_peft_reads_what_is_saved_and_computes_the_same(family: str, experts: bool, tmp_path: Path) -> None:
    if family == "laguna":
        pytest.skip("peft renames what it loads for laguna, its own adapters too")
    base = make_mixture(tmp_path / "base", family)
    ours = adapted_experts(base, RunConfig().with_value("lora.experts", experts)).eval()
    ours.save_pretrained(str(tmp_path / "adapter"))
    plain: Any = PeftModel.from_pretrained(unpacked(base), str(tmp_path / "adapter"), is_trainable=True).eval()
    mine, read = get_peft_model_state_dict(ours), get_peft_model_state_dict(plain)
    assert mine.keys() == read.keys() and all(torch.equal(mine[name], read[name]) for name in mine)
    assert any("experts.lora_A" in name for name in mine) is experts
    one, other = _gradients(ours), _gradients(plain)
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6), name
    assert torch.allclose(logits(ours), logits(plain), atol=1e-5)


@pytest.mark.parametrize("family", EACH)
def test_what_was_saved_is_loaded_onto_4_and_onto_16_bit(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family)
    ours = adapted_experts(base).eval()
    ours.save_pretrained(str(tmp_path / "adapter"))
    packed: Any = with_saved_adapter(load_base(base, RunConfig(), _DEVICE), tmp_path / "adapter").eval()
    assert torch.equal(logits(ours), logits(packed))
    assert packed.peft_config["default"].target_parameters
    plain = load_plain(base, dtype=torch.float32, device="cpu")
    before = logits(plain)
    adapted = with_saved_adapter(plain, tmp_path / "adapter").eval()
    assert not torch.allclose(logits(adapted), before, atol=1e-2)
    assert get_peft_model_state_dict(adapted).keys() == get_peft_model_state_dict(ours).keys()


def test_no_update_stays_on_experts_between_two_steps(tmp_path: Path) -> None:
    model = adapted_experts(make_mixture(tmp_path / "base", "qwen3_moe"))
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    for _ in range(3):
        _gradients(model.train())
    for module, name in stacked_experts(model).values():
        unpacking: Any = module.parametrizations[name]  # type: ignore[index]
        assert len(unpacking) == 1 and unpacking[0].update is None
    assert not parametrize._cache


def test_checkpointing_changes_no_gradient_of_experts(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe")
    plain, checkpointed = adapted_experts(base).train(), adapted_experts(base).train()
    checkpointed.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    one, other = _gradients(plain), _gradients(checkpointed)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert all(item.abs().max() > 0 for name, item in one.items() if "experts" in name)


def test_a_disabled_adapter_leaves_the_experts_as_they_are(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "gpt_oss")
    model = adapted_experts(base).eval()
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(load_base(base, RunConfig(), _DEVICE).eval()))


def test_dora_on_experts_is_refused(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe")
    with pytest.raises(StudioError, match="DoRA"):
        attach_adapters(load(base), _EXPERTS.with_value("lora.dora", True))


def test_adapters_on_experts_of_a_model_without_any_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(StudioError, match="this model has none"):
        attach_adapters(load(tiny_llama), _EXPERTS)
