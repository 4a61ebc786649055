"""How GGUF wants the tensors of mixtures of experts: each kind of matrix of all experts stacked, gate and up apart.

Of families whose files hold experts one by one the stacks are made by the layout, of their names alone. Here are those
whose files hold them together, or otherwise. As in `rearrangement`, whose kind these are: what is done to a stack is
done to each expert of it.
"""

from collections.abc import Mapping
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]
Config = Mapping[str, Any]


def stacked_experts(name: str, tensor: torch.Tensor) -> Tensors | None:
    """Stacks (experts, out, in) as transformers has them in memory, and some files too."""
    if name.endswith(".experts.gate_up_proj"):
        gate, up = tensor.chunk(2, dim=1)
        return {f"{_around(name)}.gate_proj.weight": gate, f"{_around(name)}.up_proj.weight": up}
    return {f"{name}.weight": tensor} if name.endswith(".experts.down_proj") else None


def latent_attention(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """DeepSeek: what makes keys and values of the latent apart, keys of each head turned to be multiplied first."""
    if not name.endswith(".kv_b_proj.weight"):
        return stacked_experts(name, tensor)
    keys, values = config["qk_nope_head_dim"], config["v_head_dim"]
    k, v = tensor.reshape(-1, keys + values, tensor.shape[-1]).split([keys, values], dim=1)
    return {name.replace("kv_b_proj", "k_b_proj"): k.transpose(1, 2), name.replace("kv_b_proj", "v_b_proj"): v}


def gpt_oss(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """gpt-oss: stacks (experts, in, out) with biases, gate and up in turns."""
    if name.endswith(".sinks"):
        return {f"{name}.weight": tensor}
    if ".experts." not in name:
        return None
    end = "bias" if name.endswith("_bias") else "weight"
    tensor = tensor.transpose(1, 2) if end == "weight" else tensor
    if ".gate_up_proj" not in name:
        return {f"{_around(name)}.down_proj.{end}": tensor}
    return {f"{_around(name)}.gate_proj.{end}": tensor[:, ::2], f"{_around(name)}.up_proj.{end}": tensor[:, 1::2]}


def granite(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Granite: gate and up together, those of the shared expert too. Without experts that one is all there is."""
    kind = "_shexp" if config.get("num_local_experts") else ""
    layer = name.split(".")[2] if ".layers." in name else ""
    if name.endswith("block_sparse_moe.input_linear.weight"):
        gate, up = tensor.chunk(2, dim=1)
        return {f"blk.{layer}.ffn_gate_exps.weight": gate, f"blk.{layer}.ffn_up_exps.weight": up}
    if name.endswith("shared_mlp.input_linear.weight"):
        gate, up = tensor.chunk(2)
        return {f"blk.{layer}.ffn_gate{kind}.weight": gate, f"blk.{layer}.ffn_up{kind}.weight": up}
    if name.endswith("shared_mlp.output_linear.weight"):
        return {f"blk.{layer}.ffn_down{kind}.weight": tensor}
    return None


def inputs_first(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """Qwen3-VL: stacks (experts, in, out), where these are not as in memory already."""
    if not is_stack(name, tuple(tensor.shape)):
        return None
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    as_in_memory = (2 * width, hidden) if ".gate_up_proj" in name else (hidden, width)
    return stacked_experts(name, tensor if tensor.shape[1:] == as_in_memory else tensor.transpose(1, 2))


def short_names(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """LFM2: llama.cpp knows its experts by what Mixtral's were called first."""
    if "conv.conv" in name:
        return {name: tensor.squeeze(1)}
    return {name.removeprefix("model."): tensor} if ".experts." in name else with_bias(name, tensor, config)


def with_bias(name: str, tensor: torch.Tensor, config: Config) -> Tensors | None:
    """What is added to the experts' scores is called a bias."""
    if name.endswith(".expert_bias"):
        return {f"{name}.bias": tensor}
    return stacked_experts(name, tensor)


def is_stack(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor in a file holds something of every expert, which may be large."""
    return len(shape) == 3 and (".experts." in name or "block_sparse_moe" in name)


def _around(name: str) -> str:
    return name.rpartition(".")[0]
