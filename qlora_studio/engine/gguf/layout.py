"""How GGUF lays a model out: its numbers, its positions, the order of its tensors' rows.

Only families that are tested end to end are written; others are refused rather than guessed.
"""

import math
from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.config import ConfigReader
from qlora_studio.core.model.family import FAMILIES, GgufTraits

Tensors = dict[str, torch.Tensor]


def layout_of(config: dict[str, Any]) -> GgufTraits:
    """Return how GGUF holds a model's family. Raises StudioError for one that is not known."""
    family = FAMILIES.get(config.get("model_type", ""))
    if family is None or family.gguf is None or not family.gguf.written:
        raise _refused(f"Models of the kind {config.get('model_type')} are not among those that were tested.")
    return family.gguf


def add_numbers(writer: Any, config: dict[str, Any], layout: GgufTraits) -> Tensors:
    """Add a model's shape to a gguf.GGUFWriter; return the tensors, fp32, that only GGUF has."""
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if (epsilon := config.get("rms_norm_eps")) is not None:
        writer.add_layer_norm_rms_eps(epsilon)
    else:
        writer.add_layer_norm_eps(config["norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    read = ConfigReader(config, FAMILIES[config["model_type"]])
    for key in layout.numbers:
        getattr(writer, f"add_{key}")(read.value(key))
    return _add_rope(writer, config, head_dim)


def arranged(name: str, tensor: torch.Tensor, config: dict[str, Any], layout: GgufTraits) -> torch.Tensor:
    """Return a tensor (out, in) or (out,) in the order of rows, and with the offset, that GGUF wants."""
    if layout.norm_offset and name.endswith("norm.weight"):
        return tensor.float() + layout.norm_offset
    if layout.rotates_pairs and (heads := reordered_heads(name, config)):
        return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
    return tensor


def reordered_heads(name: str, config: dict[str, Any]) -> int:
    """Return how many heads' rows are reordered in a tensor of a family that rotates pairs; 0 where none are."""
    heads = int(config["num_attention_heads"])
    if ".self_attn.q_proj." in name:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".self_attn.k_proj." in name else 0


def _add_rope(writer: Any, config: dict[str, Any], head_dim: int) -> Tensors:
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    dimensions = int(head_dim * float(rope.get("partial_rotary_factor") or 1.0))
    writer.add_rope_dimension_count(dimensions)
    writer.add_rope_freq_base(theta)
    kind = rope.get("rope_type") or "default"
    scaling = _ROPE.get(kind)
    if scaling is None:
        raise _refused(f"Its positions are scaled in a way ({kind}) that is not written here.")
    return scaling(writer, config, rope, theta, dimensions)


def _plain_rope(writer: Any, config: dict[str, Any], rope: dict[str, Any], theta: float, dimensions: int) -> Tensors:
    return {}


def _linear_rope(writer: Any, config: dict[str, Any], rope: dict[str, Any], theta: float, dimensions: int) -> Tensors:
    import gguf

    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(float(rope["factor"]))
    return {}


def _yarn_rope(writer: Any, config: dict[str, Any], rope: dict[str, Any], theta: float, dimensions: int) -> Tensors:
    import gguf

    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(rope["factor"]))
    original = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(int(original))
    return {}


def _llama3_rope(writer: Any, config: dict[str, Any], rope: dict[str, Any], theta: float, dimensions: int) -> Tensors:
    """Llama 3.1's scaling as a factor per frequency: long waves stretched, short ones kept, those between blended."""
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original = float(rope["original_max_position_embeddings"])
    factors = []
    for index in range(0, dimensions, 2):
        wave = 2 * math.pi * theta ** (index / dimensions)
        if wave < original / high:
            factors.append(1.0)
        elif wave > original / low:
            factors.append(factor)
        else:
            blend = (original / wave - low) / (high - low)
            factors.append(1 / ((1 - blend) / factor + blend))
    return {"rope_freqs.weight": torch.tensor(factors, dtype=torch.float32)}


def _long_rope(writer: Any, config: dict[str, Any], rope: dict[str, Any], theta: float, dimensions: int) -> Tensors:
    original = int(rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(original)
    ratio = config["max_position_embeddings"] / original
    attention = math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0
    writer.add_rope_scaling_attn_factors(float(rope.get("attention_factor") or attention))
    return {
        f"rope_factors_{key}.weight": torch.tensor(rope[f"{key}_factor"], dtype=torch.float32)
        for key in ("long", "short")
    }


_ROPE = {
    "default": _plain_rope,
    "linear": _linear_rope,
    "yarn": _yarn_rope,
    "llama3": _llama3_rope,
    "longrope": _long_rope,
}


def _refused(why: str) -> StudioError:
    return StudioError(
        f"This model cannot be written as a GGUF here. {why}",
        kind=FailureKind.MODEL_REFUSED,
        advice="Export as safetensors, and convert with llama.cpp's own script.",
    )
