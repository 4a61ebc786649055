"""Parameter counts from a config, against the models that transformers builds from it."""

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.tensors import shape_from_tensors
from qlora_studio.engine.experts import stacked_experts
from tests.engine.families import WRAPPERS

_CANNOT_BE_BUILT = {  # alone: transformers 5.23's own default config of the first is broken, others are inside wrappers
    "ministral", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text",
}  # fmt: skip
_UNCOUNTED = {"mllama_wrapper"}
_LAYERS = 4
_FULL = "full_attention"
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


# Of what Gemma 4 consists of: small ones with shared keys and wide layers, one with keys for values, one with experts.
_GEMMA4: dict[str, dict[str, Any]] = {
    "E2B": {
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 35,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", _FULL] * 7,
    },
    "keys for values": {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 12,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "num_global_key_value_heads": 4,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "attention_bias": True,
    },
    "experts": {
        "hidden_size": 704,
        "intermediate_size": 512,
        "num_hidden_layers": 12,
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 176,
        "tie_word_embeddings": False,
    },
}


@pytest.mark.parametrize("raw", [False, True], ids=["as saved", "as published"])
@pytest.mark.parametrize("kind", _GEMMA4)
def test_gemma_4_is_counted_to_the_unit_in_each_of_its_kinds(kind: str, raw: bool) -> None:
    text = AutoConfig.for_model("gemma4_text", **_GEMMA4[kind])
    said = {"model_type": "gemma4_text", **_GEMMA4[kind]} if raw else text.to_dict()
    shape = shape_from_config({"model_type": "gemma4", "text_config": said, "vision_config": {}})
    assert (shape.parameters, shape.quantizable_parameters) == _counts(text)
    assert shape.layers == text.num_hidden_layers and shape.exact


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


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("kind", sorted(set(WRAPPERS) - _UNCOUNTED))
def test_of_a_model_that_also_sees_the_language_model_is_counted_to_the_unit(kind: str, flat: bool) -> None:
    config: Any = WRAPPERS[kind]()
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    whole = model.get_decoder()
    head = 0 if config.tie_word_embeddings else model.get_output_embeddings().weight.numel()
    kept = get_keys_to_not_convert(model)
    replace_with_bnb_linear(
        model, modules_to_not_convert=kept, quantization_config=BitsAndBytesConfig(load_in_4bit=True)
    )
    linears = [module for module in whole.modules() if isinstance(module, bnb.nn.Linear4bit)]
    raw = config.to_dict()
    if flat:  # as older ones of Qwen2-VL are published
        text = {key: value for key, value in raw.pop("text_config").items() if key != "model_type"}
        kind_of_text = {} if kind.startswith(("qwen", "gemma")) else {"text_config": config.text_config.to_dict()}
        raw = text | raw | kind_of_text
    shape = shape_from_config(raw)
    assert shape.parameters == sum(item.numel() for item in whole.parameters()) + head
    assert shape.quantizable_parameters == sum(linear.in_features * linear.out_features for linear in linears)
    assert shape.exact


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
