"""A model's numbers as GGUF metadata: by its config alone, key by key what llama.cpp's converter writes."""

from collections.abc import Callable, Mapping
from typing import Any

from qlora_studio.core.model.gguf_family import Number, gguf_traits
from qlora_studio.engine.gguf.rope import rope_numbers

Config = Mapping[str, Any]

# What all families have, where their config says it: the first of these keys that is there.
_COMMON: dict[str, tuple[str, ...]] = {
    "block_count": ("n_layers", "num_hidden_layers", "n_layer", "num_layers"),
    "context_length": ("max_position_embeddings", "n_ctx", "n_positions", "max_sequence_length", "model_max_length"),
    "embedding_length": ("hidden_size", "n_embd", "dim"),
    "feed_forward_length": ("dense_intermediate_size", "intermediate_size", "n_inner", "hidden_dim"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads", "n_kv_heads"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
}
_FLOATS = (
    "epsilon",
    "_scale",
    ".scale",
    "softcapping",
    "clamp_kqv",
    "freq_base",
    "freq_base_swa",
    "_factor",
    ".factor",
)
_WITHOUT_ARCHITECTURE = ("xielu.",)


def gguf_numbers(config: Config) -> dict[str, Number]:
    """Return a model's metadata by key, its tokenizer's and general ones apart; keys without the architecture."""
    traits = gguf_traits(config)
    found = {key: _first(config, names) for key, names in _COMMON.items()} | rope_numbers(config)
    for key in traits.without:
        found.pop(key, None)
    found |= traits.fixed
    found |= {key: config[name] for key, name in traits.numbers.items() if config.get(name) is not None}
    if computed := _COMPUTED.get(str(config["model_type"])):
        found |= computed(config)
    return {key: _typed(key, value) for key, value in found.items() if value is not None}


def add_numbers(writer: Any, numbers: Mapping[str, Number], architecture: str) -> None:
    """Add metadata to a gguf.GGUFWriter, by the types that Python's own stand for."""
    for key, value in numbers.items():
        name = key if key.startswith(_WITHOUT_ARCHITECTURE) else f"{architecture}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)


def _first(config: Config, names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _typed(key: str, value: Number) -> Number:
    is_float = isinstance(value, int) and not isinstance(value, bool) and key.endswith(_FLOATS)
    return float(value) if is_float and isinstance(value, int) else value


def _phi3(config: Config) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    width = int(float(rope.get("partial_rotary_factor") or 1.0) * config["hidden_size"])
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return {
        "rope.dimension_count": width // config["num_attention_heads"],
        "rope.scaling.original_context_length": original or config["max_position_embeddings"],
    }


def _whole_heads(config: Config) -> dict[str, Any]:
    """Rope turns all of a head."""
    return {"rope.dimension_count": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]}


_COMPUTED: dict[str, Callable[[Config], dict[str, Any]]] = {
    "llama": _whole_heads,
    "mistral": _whole_heads,
    "phi3": _phi3,
}
