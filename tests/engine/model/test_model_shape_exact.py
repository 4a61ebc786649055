"""Parameter counts from a config, against the models that transformers builds from it."""

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.tensors import shape_from_tensors
from qlora_studio.engine.experts import stacked_experts

_CANNOT_BE_BUILT = {"ministral"}  # transformers 5.23's own default config of it is broken
_LAYERS = 4
_NEEDED: dict[str, dict[str, Any]] = {  # without these the defaults of transformers 5.23 build no model, or no mixture
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_dense_layers": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "mamba"]},
}
_SMALL = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 1000,
    "vocab_size": 5000,
    "attention_bias": True,
    "mlp_bias": True,
    "use_bias": True,
    "use_qkv_bias": True,
    "use_qk_norm": True,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
# With one, transformers leaves olmo's last linear layer in 16 bit; nemotron_h it never ties
_WITHOUT_TIED_HEADS = {"olmo", "nemotron_h"}


def _config(family: str, **changes: Any) -> Any:
    changes = _NEEDED.get(family, {}) | changes
    config = AutoConfig.for_model(family, num_hidden_layers=_LAYERS, **changes)
    for name in ("layer_types", "mlp_layer_types", "no_rope_layers"):
        if family != "falcon_h1" and isinstance(getattr(config, name, None), list):
            setattr(config, name, getattr(config, name)[:_LAYERS])
    return config


def _counts(config: Any) -> tuple[int, int]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    total = sum(parameter.numel() for parameter in model.parameters())
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    kept = get_keys_to_not_convert(model)
    replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=quantization)
    linears = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    experts = sum(getattr(module, name).numel() for module, name in stacked_experts(model).values())
    return total, sum(linear.in_features * linear.out_features for linear in linears) + experts


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - _CANNOT_BE_BUILT))
@pytest.mark.parametrize("variant", ["default", "small, tied, with biases"])
def test_counts_equal_those_of_the_model_that_transformers_builds(family: str, variant: str) -> None:
    changes: dict[str, Any] = {}
    if variant != "default":
        changes = _SMALL | {"tie_word_embeddings": family not in _WITHOUT_TIED_HEADS}
        if family != "gpt_neox":
            changes["num_key_value_heads"] = 4
    config = _config(family, **changes)
    shape = shape_from_config(config.to_dict())
    assert (shape.parameters, shape.quantizable_parameters) == _counts(config)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi", "starcoder2", "gemma2", "gpt_neox", "stablelm", "olmo2"])
def test_counts_of_an_unknown_family_follow_from_its_tensors(family: str) -> None:
    config = _config(family)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tensors = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    unknown = shape_from_config(config.to_dict() | {"model_type": "never_seen"})
    assert not unknown.exact
    found = shape_from_tensors(unknown, tensors)
    assert (found.parameters, found.quantizable_parameters) == _counts(config)
    assert found.linear_names() == shape_from_config(config.to_dict()).linear_names()


def test_more_than_twelve_families_are_known() -> None:
    assert len(set(FAMILIES) - _CANNOT_BE_BUILT) >= 30


def test_a_convolution_makes_no_mixture_of_experts_and_a_vision_tower_no_layers() -> None:
    config = _config("qwen3_5_text")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tensors = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    first = {name: size for name, size in tensors.items() if ".layers.0." in name}
    tensors |= {f"{part}.{name}": size for part in ("mtp", "vision_tower") for name, size in first.items()}
    found = shape_from_tensors(shape_from_config(config.to_dict() | {"model_type": "never_seen"}), tensors)
    assert found.expert_parameters == 0
    assert found.quantizable_parameters == _counts(config)[1]
