"""How GGUF wants a family's tensors: rows in another order, halves apart, norms with an offset, numbers computed.

A rearrangement takes a tensor by its name in the base's files and returns what becomes of it, by names that llama.cpp
maps or has itself: several tensors, one, or none. None stands for a tensor that stays as it is. Run on meta tensors it
says shapes; so it may only compute.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import GgufTraits

Tensors = dict[str, torch.Tensor]
Config = Mapping[str, Any]
Rearrangement = Callable[[str, torch.Tensor, Config], Tensors | None]


def rearranged(name: str, tensor: torch.Tensor, config: Config, traits: GgufTraits) -> Tensors | None:
    """Return what becomes of a tensor (out, in) or (out,); None where it stays as it is."""
    if traits.norm_offset and name.endswith("norm.weight"):
        return {name: tensor.float() + traits.norm_offset}
    if traits.rotates_pairs and (heads := _turned_heads(name, config)):
        return {name: _in_pairs(tensor, heads)}
    special = _SPECIAL.get(str(config["model_type"]))
    return special(name, tensor, config) if special else None


def _turned_heads(name: str, config: Config) -> int:
    """Return how many heads' rows rope turns in a tensor; 0 where it turns none."""
    heads = int(config["num_attention_heads"])
    if ".q_proj." in name:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".k_proj." in name else 0


def _in_pairs(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """From halves of a head that are turned together to neighbouring rows."""
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


_SPECIAL: dict[str, Rearrangement] = {}
