"""Layers that carry a state from token to token: by the gated delta rule, by Mamba 2, by a short convolution."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.model.config import ConfigReader

_DELTA_CHUNK, _MAMBA_CHUNK = 64, 256  # of transformers' own code
_INTERVAL = 4  # of Qwen3-Next: every fourth layer attends in full, where the config leaves it open
_LAYER_LISTS = ("layer_types", "layers_block_type", "hybrid_override_pattern")
_RECURRENT = ("linear_attention", "mamba", "conv", "M")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What a layer's recurrence works on, counted for one token.

    `inputs` and `outputs` are numbers that enter and leave all heads: keys and values of the delta rule, states and
    channels of Mamba. `channels` go through the convolution, `scores` are a chunk's for each token of it, `states` a
    chunk's divided among its tokens.
    """

    kind: Literal["delta", "mamba", "convolution"]
    channels: int
    inputs: int = 0
    outputs: int = 0
    scores: int = 0
    states: int = 0


def recurrence_of(read: ConfigReader) -> Recurrence | None:
    """Return the recurrence that a config describes: of Qwen3-Next, of Mamba 2 by its several names, of LFM2."""
    if read.number("linear_num_value_heads"):
        return delta_rule(read)
    if read.number("conv_L_cache"):
        return Recurrence(kind="convolution", channels=read.size("hidden_size"))
    state = read.number("mamba_d_state") or read.number("state_size")
    heads = read.number("mamba_n_heads") or read.number("num_heads")
    if not heads or not state:
        return None
    width = read.number("mamba_d_head") or read.number("head_dim") or 2 * read.size("hidden_size") // heads
    inner = read.number("mamba_d_ssm") or heads * width
    chunk = read.number("mamba_chunk_size") or read.number("chunk_size") or _MAMBA_CHUNK
    return Recurrence(
        kind="mamba",
        channels=inner + 2 * (read.number("mamba_n_groups") or 1) * state,
        inputs=heads * state,
        outputs=inner,
        scores=heads * chunk,
        states=inner * state // chunk,
    )


def recurrent_layers(read: ConfigReader, layers: int) -> int:
    """Return how many layers have the recurrence: those that a config names, or all."""
    if kinds := next((found for key in _LAYER_LISTS if (found := read.value(key))), None):
        return sum(kind in _RECURRENT for kind in kinds)
    if (attending := read.value("attn_layer_indices")) is not None:
        return layers - len(attending)
    interval = read.number("full_attention_interval") or (_INTERVAL if read.number("linear_num_value_heads") else 0)
    return layers - layers // interval if interval else layers


def delta_rule(read: ConfigReader) -> Recurrence:
    """Return the recurrence of Qwen3-Next and Qwen3.5."""
    heads, keys = read.size("linear_num_value_heads"), read.size("linear_key_head_dim")
    values = read.size("linear_value_head_dim")
    return Recurrence(
        kind="delta",
        channels=2 * read.size("linear_num_key_heads") * keys + heads * values,
        inputs=heads * keys,
        outputs=heads * values,
        scores=heads * _DELTA_CHUNK,
        states=heads * keys * values // _DELTA_CHUNK,
    )
