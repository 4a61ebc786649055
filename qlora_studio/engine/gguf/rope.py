"""How positions are turned and scaled: as GGUF metadata, and as the factors that llama.cpp takes from tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import not_written
from qlora_studio.core.words import say

_YARN = {
    "rope.scaling.yarn_ext_factor": ("extrapolation_factor",),
    "rope.scaling.yarn_attn_factor": ("attention_factor", "attn_factor"),
    "rope.scaling.yarn_beta_fast": ("beta_fast",),
    "rope.scaling.yarn_beta_slow": ("beta_slow",),
}
_UNSCALED = ("default", "llama3", "dynamic", "proportional")
_NEVER = 1e30  # a wave so long that nothing is turned


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how positions are turned in layers that attend to everything."""
    rope = config.get("rope_parameters") or {}
    found: Mapping[str, Any] = rope.get("full_attention", rope)
    return found


def layer_value(config: Mapping[str, Any], layer: int, key: str) -> Any:
    """Return a number of one layer, where layers differ in it."""
    own: Mapping[Any, Any] = config.get("per_layer_config") or {}
    return (own.get(str(layer)) or own.get(layer) or {}).get(key, config[key])


def far_head_size(config: Mapping[str, Any]) -> int:
    """Return the size of a head in layers that attend to everything."""
    return int(layer_value(config, list(config["layer_types"]).index("full_attention"), "head_dim"))


def rope_numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata by key. Raises StudioError for a way of scaling that is not known."""
    rope, all_layers = rope_parameters(config), config.get("rope_parameters") or {}
    found: dict[str, Any] = {"rope.freq_base": _number(rope.get("rope_theta") or config.get("rope_theta"))}
    found["rope.freq_base_swa"] = _number((all_layers.get("sliding_attention") or {}).get("rope_theta"))
    if sections := rope.get("mrope_section"):
        found["rope.dimension_sections"] = [*sections, 0, 0][:4]
    return found | _scaling(config, rope)


def rope_tensors(config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return what only GGUF has as tensors, fp32: factors per frequency."""
    rope = rope_parameters(config)
    if rope.get("rope_type") == "llama3":
        return {"rope_freqs.weight": _stretched(config, rope)}
    if rope.get("rope_type") == "proportional":
        half = far_head_size(config) // 2
        turned = int(half * float(rope["partial_rotary_factor"]))
        return {"rope_freqs.weight": torch.tensor([1.0] * turned + [_NEVER] * (half - turned))}
    if rope.get("rope_type") in ("longrope", "su"):
        return {
            f"rope_factors_{key}.weight": torch.tensor(rope[f"{key}_factor"], dtype=torch.float32)
            for key in ("long", "short")
        }
    return {}


def _scaling(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    kind = rope.get("rope_type") or "default"
    if kind in _UNSCALED:
        return {}
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    original = int(original or config["max_position_embeddings"])
    if kind == "yarn":
        found: dict[str, Any] = {"rope.scaling.type": "yarn", "rope.scaling.factor": float(rope["factor"])}
        found["rope.scaling.original_context_length"] = original
        given = {key: [rope[name] for name in names if rope.get(name) is not None] for key, names in _YARN.items()}
        return found | {key: float(values[0]) for key, values in given.items() if values}
    if kind in ("longrope", "su"):
        ratio = config["max_position_embeddings"] / original
        attention = math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0
        return {
            "rope.scaling.type": "longrope",
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": float(rope.get("attention_factor") or attention),
        }
    raise not_written(say("Its positions are scaled in a way ({kind}) that is not known.", kind=kind))


def _stretched(config: Mapping[str, Any], rope: Mapping[str, Any]) -> torch.Tensor:
    """Llama 3.1's scaling as a factor per frequency: long waves stretched, short ones kept, those between blended."""
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original = float(rope["original_max_position_embeddings"])
    factors = []
    for index in range(0, size, 2):
        wave = 2 * math.pi * theta ** (index / size)
        if wave < original / high:
            factors.append(1.0)
        elif wave > original / low:
            factors.append(factor)
        else:
            blend = (original / wave - low) / (high - low)
            factors.append(1 / ((1 - blend) / factor + blend))
    return torch.tensor(factors, dtype=torch.float32)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
