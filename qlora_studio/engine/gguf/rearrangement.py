"""How GGUF wants a family's tensors: rows in another order, halves apart, norms with an offset, numbers computed.

A rearrangement takes a tensor by its name in the base's files and returns what becomes of it, by names that llama.cpp
maps or has itself: several tensors, one, or none. None stands for a tensor that stays as it is. Run on meta tensors it
says shapes; so it may only compute.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import GgufTraits
from qlora_studio.engine.gguf.expert_tensors import (
    gpt_oss,
    granite,
    inputs_first,
    latent_attention,
    short_names,
    stacked_experts,
    with_bias,
)

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
    return special(name, tensor, config) if special else stacked_experts(name, tensor)


def _turned_heads(name: str, config: Config) -> int:
    """Return how many heads' rows rope turns in a tensor; 0 where it turns none."""
    heads = int(config["num_attention_heads"])
    if ".q_proj." in name:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".k_proj." in name else 0


def _in_pairs(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """From halves of a head that are turned together to neighbouring rows."""
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def falcon_key_heads(config: Config) -> int:
    """Return how many heads a Falcon has for keys and values."""
    if config["new_decoder_architecture"]:
        return int(config["num_kv_heads"])
    return 1 if config["multi_query"] else int(config["num_attention_heads"])


def _gpt2(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Its linear layers are stored as (in, out)."""
    is_linear = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    return {name: tensor.T} if is_linear else None


def _queries_first(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """From query, key and value of each head to all queries, all keys, all values."""
    if "query_key_value" not in name:
        return None
    heads = config.get("n_head") or config["num_attention_heads"]
    parts = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
    return {name: parts.transpose(0, 1).reshape(tensor.shape)}


def _falcon(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """From groups of queries with their key and value to all queries, all keys, all values."""
    if "query_key_value" not in name:
        return None
    heads, groups = config["num_attention_heads"], falcon_key_heads(config)
    parts = tensor.reshape(groups, heads // groups + 2, -1, *tensor.shape[1:])
    kinds = (parts[:, :-2], parts[:, -2], parts[:, -1])
    return {name: torch.cat([kind.reshape(-1, *tensor.shape[1:]) for kind in kinds])}


def _without_biases(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    return {} if name.endswith(".bias") else None


def _apertus(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """What its activation has learned is among the numbers."""
    return {} if ".act_fn." in name else None


def _lfm2(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    return {name: tensor.squeeze(1)} if "conv.conv" in name else None


def _state_space(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Mamba: its decay as the number that is multiplied with."""
    if name.endswith(".A_log"):
        return {name: -torch.exp(tensor.float())}
    return {name: tensor.squeeze(1)} if name.endswith(".conv1d.weight") else None


def _state_space_of_heads(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Mamba 2: decay and skip of each head as a column, and the norm's weights by groups."""
    if name.endswith((".A_log", ".D")):
        column = (-torch.exp(tensor.float()) if name.endswith(".A_log") else tensor).reshape(-1, 1)
        return {name: column}
    if name.endswith((".mixer.norm.weight", ".mamba.norm.weight")):
        groups = config.get("mamba_n_groups") or config["n_groups"]
        return {name: tensor.reshape(groups, -1)}
    return {name: tensor.squeeze(1)} if name.endswith(".conv1d.weight") else None


def _granite_hybrid(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Its shared feed-forward layer is the only one where it has no experts."""
    found = granite(name, tensor, config)
    return _state_space_of_heads(name, tensor, config) if found is None else found


def _falcon_h1(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """What its layers multiply with is multiplied into their weights."""
    inside = config["attention_in_multiplier"]
    factors = {
        "down_proj": config["mlp_multipliers"][1],
        "gate_proj": config["mlp_multipliers"][0],
        "k_proj": config["key_multiplier"] * inside,
        "q_proj": inside,
        "v_proj": inside,
        "o_proj": config["attention_out_multiplier"],
        "out_proj": config["ssm_out_multiplier"],
        "lm_head": config["lm_head_multiplier"],
        "embed_tokens": config["embedding_multiplier"],
    }
    if "mamba.in_proj" in name:
        return {name: tensor * _falcon_h1_inside(config, tensor)}
    factor = next((factor for part, factor in factors.items() if part in name), None)
    return _state_space_of_heads(name, tensor, config) if factor is None else {name: tensor * factor}


def _falcon_h1_inside(config: Config, tensor: torch.Tensor) -> torch.Tensor:
    """The factor of each row of what goes into the state space: gate, input, B, C, time steps."""
    inner, groups = config["mamba_d_ssm"], config["mamba_n_groups"] * config["mamba_d_state"]
    sizes = (inner, inner, groups, groups, tensor.shape[0] - 2 * inner - 2 * groups)
    rows = [factor for factor, size in zip(config["ssm_multipliers"], sizes, strict=True) for _ in range(size)]
    factors = torch.tensor(rows, dtype=torch.float32, device=tensor.device) * float(config["ssm_in_multiplier"])
    return factors.reshape(-1, *[1] * (tensor.ndim - 1))


def _qwen3_5(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Linear attention: values by their place in a group of heads first, then by group, as llama.cpp repeats keys."""
    if "linear_attn." not in name:
        return {name: tensor.float() + 1} if name.endswith("norm.weight") else stacked_experts(name, tensor)
    keys, size = config["linear_num_key_heads"], config["linear_value_head_dim"]
    before = 2 * keys * config["linear_key_head_dim"]  # rows of queries and keys, which stay
    if ".in_proj_qkv." in name or ".conv1d." in name:
        tensor = tensor.squeeze(1) if tensor.ndim == 3 else tensor
        return {name: torch.cat([tensor[:before], _tiled(tensor[before:], keys, size)])}
    if ".in_proj_z." in name:
        return {name: _tiled(tensor, keys, size)}
    if ".out_proj." in name:
        return {name: _tiled(tensor.T, keys, size).T}
    if name.endswith(".norm.weight"):
        return None
    tensor = -torch.exp(tensor.float()) if name.endswith(".A_log") else tensor
    return {name: _tiled(tensor, keys, 1)}  # a row a head: time steps, decay, and what makes them


def _qwen3_next(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Linear attention: queries, keys, values and gates of each group of heads to all of each kind."""
    if "linear_attn." not in name:
        return _qwen3_5(name, tensor, config)
    if name.endswith(".A_log"):
        return {name: -torch.exp(tensor.float())}
    if ".in_proj_qkvz." not in name:
        return {name: tensor.squeeze(1)} if ".conv1d." in name else None
    groups, size = config["linear_num_key_heads"], config["linear_key_head_dim"]
    values = config["linear_num_value_heads"] // groups * config["linear_value_head_dim"]
    parts = tensor.reshape(groups, -1, tensor.shape[-1]).split([size, size, values, values], dim=1)
    *inputs, gate = (part.reshape(-1, tensor.shape[-1]) for part in parts)
    layer = name.split(".")[2]
    return {f"blk.{layer}.attn_qkv.weight": torch.cat(inputs), f"blk.{layer}.attn_gate.weight": gate}


def _gemma3n(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    return {f"{name}.weight": tensor} if name.endswith("_scale") else None


def _gemma4(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Scales of layers, of the router and of experts; gate and up of these stay together."""
    layer = name.split(".")[2] if ".layers." in name else ""
    if name.endswith(".router.scale"):
        return {f"blk.{layer}.ffn_gate_inp.scale": tensor}
    if name.endswith(".per_expert_scale"):
        return {f"blk.{layer}.ffn_down_exps.scale": tensor}
    is_bare = name.endswith(".layer_scalar") or (".experts." in name and not name.endswith(".weight"))
    return {f"{name}.weight": tensor} if is_bare else None


def _tiled(tensor: torch.Tensor, groups: int, size: int) -> torch.Tensor:
    """Rows of heads of a size, from group after group to the first of each group, the second of each group, and on."""
    parts = tensor.reshape(groups, -1, size, *tensor.shape[1:])
    return parts.transpose(0, 1).reshape(tensor.shape)


_SPECIAL: dict[str, Rearrangement] = {
    "deepseek_v2": latent_attention,
    "deepseek_v3": latent_attention,
    "glm4_moe_lite": latent_attention,
    "gpt_oss": gpt_oss,
    "granitemoe": granite,
    "granitemoeshared": granite,
    "lfm2_moe": short_names,
    "afmoe": with_bias,
    "qwen3_vl_moe_text": inputs_first,
    "gemma3n_text": _gemma3n,
    "gemma4_text": _gemma4,
    "qwen3_next": _qwen3_next,
    "qwen3_5_moe_text": _qwen3_5,
    "apertus": _apertus,
    "granitemoehybrid": _granite_hybrid,
    "qwen3_5_text": _qwen3_5,
    "cohere2": _without_biases,
    "gpt_neox": _queries_first,
    "gpt2": _gpt2,
    "falcon": _falcon,
    "bloom": _queries_first,
    "lfm2": _lfm2,
    "mamba": _state_space,
    "falcon_mamba": _state_space,
    "mamba2": _state_space_of_heads,
    "nemotron_h": _state_space_of_heads,
    "falcon_h1": _falcon_h1,
}
