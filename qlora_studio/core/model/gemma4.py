"""Gemma 4's layers: unlike in width and heads, keys and values shared by the last ones, an embedding for each layer."""

from typing import Any

from qlora_studio.core.model.config import ConfigReader, nonsense
from qlora_studio.core.model.layers import LayerShape, Linear, Sizes
from qlora_studio.core.words import say

_PATTERN = 6  # every sixth layer attends in full, where the config leaves it open
_GLOBAL_HEAD = 512
_OWN = ("head_dim", "num_key_value_heads")


def gemma4_layers(read: ConfigReader, sizes: Sizes) -> tuple[LayerShape, ...]:
    """Return the kinds of decoder layers that a config describes."""
    found: dict[LayerShape, int] = {}
    for layer in range(read.size("num_hidden_layers")):
        shape = _layer(read, sizes, layer)
        found[shape] = found.get(shape, 0) + 1
    return tuple(LayerShape(count, kind.linears, kind.kept, kind.experts, kind.own) for kind, count in found.items())


def layer_embeddings(read: ConfigReader) -> tuple[int, tuple[Linear, ...]]:
    """Return the parameters of the embeddings for each layer, with their norm, and what makes more of the first one."""
    width = read.number("hidden_size_per_layer_input")
    all_layers = read.size("num_hidden_layers") * width
    if not width:
        return 0, ()
    projection = Linear("per_layer_model_projection", read.size("hidden_size"), all_layers)
    return read.size("vocab_size_per_layer_input") * all_layers + width, (projection,)


def _layer(read: ConfigReader, sizes: Sizes, layer: int) -> LayerShape:
    hidden, bias = sizes.hidden, read.flag("attention_bias")
    is_full, own = _is_full(read, layer), _overrides(read, layer)
    reuses = layer >= read.size("num_hidden_layers") - read.number("num_kv_shared_layers")
    head = own.get("head_dim") or sizes.head_dim
    kv_heads = own.get("num_key_value_heads") or sizes.kv_heads
    width = sizes.width * (2 if reuses and read.flag("use_double_wide_mlp") else 1)
    linears = [Linear("q_proj", hidden, sizes.heads * head, "attention_in", bias)]
    if not reuses:
        linears.append(Linear("k_proj", hidden, kv_heads * head, "attention_in", bias))
        if not (is_full and read.flag("attention_k_eq_v")):
            linears.append(Linear("v_proj", hidden, kv_heads * head, "attention_in", bias))
    linears.append(Linear("o_proj", sizes.heads * head, hidden, "attention_out", bias))
    linears += [Linear(name, hidden, width, "mlp_in") for name in ("gate_proj", "up_proj")]
    linears.append(Linear("down_proj", width, hidden, "mlp_out"))
    kept = 4 * hidden + head * (1 if reuses else 2)
    if small := read.number("hidden_size_per_layer_input"):
        linears += [Linear("per_layer_input_gate", hidden, small), Linear("per_layer_projection", small, hidden)]
        kept += hidden
    experts = 0
    if read.flag("enable_moe_block"):
        count = read.size("num_experts")
        linears.append(Linear("proj", hidden, count))  # the router's
        experts, kept = 3 * hidden * read.size("moe_intermediate_size") * count, kept + 4 * hidden + count
    return LayerShape(1, tuple(linears), kept, experts, Sizes(hidden, sizes.heads, kv_heads, head, width))


def _is_full(read: ConfigReader, layer: int) -> bool:
    last = read.size("num_hidden_layers") - 1
    kinds = read.value("layer_types")
    if kinds and len(kinds) <= layer:
        raise nonsense(say("of each layer what it is"))
    return layer == last or (kinds[layer] == "full_attention" if kinds else (layer + 1) % _PATTERN == 0)


def _overrides(read: ConfigReader, layer: int) -> dict[str, Any]:
    """Return what holds of one layer alone: newer configs say so by its number, older ones of full attention."""
    said = read.value("per_layer_config")
    if isinstance(said, dict):
        names = (layer, str(layer), f"{layer:02d}", f"{layer:03d}")  # transformers writes 05
        own: Any = next((said[name] for name in names if name in said), {})
        if not isinstance(own, dict) or any(type(own.get(key, 1)) is not int for key in _OWN):
            raise nonsense("per_layer_config")
        return own
    if not _is_full(read, layer):
        return {}
    kv_heads = read.number("num_global_key_value_heads") if read.flag("attention_k_eq_v") else 0
    return {"head_dim": read.number("global_head_dim") or _GLOBAL_HEAD, "num_key_value_heads": kv_heads}
