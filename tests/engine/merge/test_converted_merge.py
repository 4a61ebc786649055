"""Adapters on what transformers computes of several tensors in files: they must give peft's own merge, saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Llama4TextConfig,
    PreTrainedConfig,
    Qwen3_5MoeTextConfig,
)
from transformers.core_model_loading import Conv3dToLinear, WeightConverter

from qlora_studio.engine.merge.conversion import Conversion
from qlora_studio.engine.merge.writer import merge_adapter
from tests.engine.families import VOCABULARY
from tests.engine.mixtures import MIXTURES
from tests.engine.tiny_families import LARGEST, families, tiny_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
FAMILIES: dict[str, Callable[..., PreTrainedConfig]] = {
    **MIXTURES,
    "llama4_text": lambda **more: Llama4TextConfig(
        **{**_SHAPE, "intermediate_size_mlp": 96, "num_local_experts": 4, "moe_layers": [1], **more}
    ),
    "qwen3_5_moe": lambda **more: Qwen3_5MoeTextConfig(
        **{**_SHAPE, "num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48},
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        **{"linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"], **more},
    ),
}
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


def _merged_by_peft(folder: Path, config: PreTrainedConfig, lora: LoraConfig) -> tuple[Path, Path, Path]:
    """Return a random base, a random adapter on it, and what peft merges of them, as transformers saves each."""
    torch.manual_seed(7)
    model: Any = AutoModelForCausalLM.from_config(config).float()
    model.save_pretrained(folder / "base")
    adapted: Any = get_peft_model(model, lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    adapted.save_pretrained(str(folder / "adapter"))
    adapted.merge_and_unload().save_pretrained(folder / "expected")
    return folder / "base", folder / "adapter", folder / "expected"


def _compare(folder: Path, config: PreTrainedConfig, lora: LoraConfig) -> set[str]:
    """Merge here and by peft, compare tensor by tensor, and return the names of those that were changed."""
    base, adapter, expected = _merged_by_peft(folder, config, lora)
    merge_adapter(base, adapter, folder / "out")
    before, wanted, found = (load_file(path / "model.safetensors") for path in (base, expected, folder / "out"))
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, rtol=1e-5, atol=1e-6), name
    return {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_on_stacked_experts_goes_into_the_files_as_peft_merges_it(family: str, tmp_path: Path) -> None:
    dense = ["q_a_proj" if family.startswith("deepseek") else "q_proj"]
    lora = LoraConfig(r=3, lora_alpha=5, target_modules=dense, target_parameters=EXPERTS, use_rslora=True)
    changed = _compare(tmp_path, FAMILIES[family](), lora)
    assert any("experts" in name or "linear" in name for name in changed)
    assert any("self_attn" in name for name in changed)


@pytest.mark.parametrize("parameter", EXPERTS)
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_one_kind_of_stack_alone_is_told_from_the_other(family: str, parameter: str, tmp_path: Path) -> None:
    square = {"moe_intermediate_size": 32} if family == "qwen3_moe" else {"intermediate_size": 64}
    lora = LoraConfig(r=2, target_modules=[], target_parameters=[parameter])
    changed = _compare(tmp_path, FAMILIES[family](**square), lora)
    assert all(("down" in name) == ("down" in parameter) for name in changed)
    assert changed


@pytest.mark.filterwarnings("ignore:The following .* keys did not match")  # peft's, of a pattern that it made itself
@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3", "mixtral"])
def test_names_of_layers_that_peft_turns_into_stacks_are_merged_with_its_rank_and_scale(
    family: str, tmp_path: Path
) -> None:
    names = ["w1", "w2", "w3", "gate"] if family == "mixtral" else ["gate_proj", "up_proj", "down_proj", "gate"]
    lora = LoraConfig(r=3, lora_alpha=7, target_modules=[*names, "o_proj"], rank_pattern={"o_proj": 2})
    changed = _compare(tmp_path, FAMILIES[family](), lora)
    assert any(".experts.3." in name for name in changed) and any(name.endswith("gate.weight") for name in changed)


def test_experts_that_the_files_hold_as_one_tensor_are_merged_a_few_at_a_time(tmp_path: Path) -> None:
    config = FAMILIES["granitemoe"](hidden_size=256, intermediate_size=512, num_local_experts=8, num_hidden_layers=1)
    assert _compare(tmp_path, config, LoraConfig(r=2, target_modules=[], target_parameters=EXPERTS))


@pytest.mark.parametrize("dora", [False, True])
def test_halves_that_the_files_hold_as_one_tensor_are_merged_each(dora: bool, tmp_path: Path) -> None:
    lora = LoraConfig(r=3, target_modules=["gate_proj", "k_proj"], use_dora=dora)
    changed = _compare(tmp_path, tiny_config("hrm_text"), lora)
    assert changed and all("gate_up" in name or "attn" in name for name in changed)


def test_rows_that_the_files_hold_in_turns_are_put_where_they_lie(tmp_path: Path) -> None:
    assert _compare(
        tmp_path, tiny_config("inkling2_text"), LoraConfig(r=3, target_modules=[], target_parameters=EXPERTS)
    )


def test_what_is_computed_in_a_way_that_is_not_known_has_no_way_back() -> None:
    rule = WeightConverter(["a"], ["b"], [Conv3dToLinear(1, (1, 1, 1))])
    assert Conversion(None, rule, "b", {"a": ["a"]}).made({"a": (4, 4)}) is None


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in families() if name not in FAMILIES])
def test_every_family_whose_experts_are_stacked_is_merged_as_peft_does(family: str, tmp_path: Path) -> None:
    try:
        config = tiny_config(family)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        pytest.skip(f"no small one can be built: {error}")
    stacks = {name for name, parameter in model.named_parameters() if parameter.ndim == 3 and ".experts." in name}
    if not stacks or model.num_parameters() > LARGEST:
        pytest.skip("no stacked experts")
    assert _compare(tmp_path, config, LoraConfig(r=3, target_modules=[], target_parameters=sorted(stacks)))
