"""The shape of a model, from its config."""

from typing import Any

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.shape import ModelShape, shape_from_config

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _llama(**changes: Any) -> ModelShape:
    return shape_from_config(LLAMA_8B | changes)


def test_an_8b_llama_has_its_published_number_of_parameters() -> None:
    shape = _llama()
    assert shape.parameters == 8_030_261_248
    assert shape.quantizable_parameters == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert shape.layers == 32
    assert shape.architecture == "LlamaForCausalLM"


def test_tied_embeddings_are_counted_once() -> None:
    assert _llama().parameters - _llama(tie_word_embeddings=True).parameters == 128256 * 4096


def test_auto_targets_every_linear_layer_but_the_head() -> None:
    shape = _llama()
    assert shape.linear_names() == SEVEN
    assert shape.targets("auto") == frozenset(SEVEN)
    assert shape.targets("q_proj, v_proj, nonsense") == {"q_proj", "v_proj"}


def test_the_articles_adapters_have_its_167_772_160_parameters() -> None:
    shape = _llama()
    assert shape.adapter_parameters(64, shape.targets("auto")) == 167_772_160


def test_dora_adds_a_magnitude_for_each_output() -> None:
    shape = _llama()
    targets = shape.targets("q_proj")
    assert shape.adapter_parameters(8, targets, dora=True) - shape.adapter_parameters(8, targets) == 32 * 4096


def test_experts_are_counted_as_quantizable() -> None:
    shape = shape_from_config(
        LLAMA_8B | {"model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
    )
    assert shape.parameters == 46_702_792_704
    assert shape.expert_parameters == 32 * 8 * 3 * 4096 * 14336
    assert shape.quantizable_parameters == shape.expert_parameters + 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)


def test_the_language_model_inside_a_seeing_one_is_found() -> None:
    text = {key: value for key, value in LLAMA_8B.items() if key != "architectures"}
    shape = shape_from_config({"model_type": "some_vision_model", "text_config": text})
    assert shape.parameters == 8_030_261_248


def test_an_unknown_family_is_taken_for_a_llama_and_says_so() -> None:
    shape = _llama(model_type="brand_new")
    assert not shape.exact
    assert shape.parameters == _llama().parameters


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
@pytest.mark.parametrize("value", [None, 0, -1, "many", True, 1.5])
def test_a_config_without_a_size_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(StudioError, match=key) as refused:
        _llama(**{key: value})
    assert refused.value.kind == "model_refused"


OTHER_NAMES = (
    {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "n_positions": 1024},
    {"model_type": "gptj", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
    {"model_type": "mpt", "d_model": 768, "n_layers": 12, "n_heads": 12, "max_seq_len": 1024},
    {"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072}
    | {"max_position_embeddings": 1024},
    {"model_type": "xglm", "d_model": 768, "num_layers": 12, "attention_heads": 12, "ffn_dim": 3072}
    | {"max_position_embeddings": 1024},
)


@pytest.mark.parametrize("config", OTHER_NAMES, ids=lambda config: config["model_type"])
def test_sizes_are_read_by_whatever_name_a_family_gives_them(config: dict[str, Any]) -> None:
    shape = shape_from_config({"vocab_size": 50257, **config})
    assert (shape.hidden_size, shape.layers, shape.heads, shape.intermediate_size) == (768, 12, 12, 3072)
    assert shape.context_length == 1024
    assert not shape.exact


def test_a_family_without_attention_is_guessed_and_not_refused() -> None:
    shape = shape_from_config({"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280})
    assert shape.layers == 24
    assert not shape.exact
