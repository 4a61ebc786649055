"""A model's numbers as GGUF metadata: by its config alone, key by key what llama.cpp's converter writes."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import Number, attends, gguf_traits, not_written
from qlora_studio.core.words import say
from qlora_studio.engine.gguf.rearrangement import falcon_key_heads
from qlora_studio.engine.gguf.rope import far_head_size, layer_value, rope_numbers, rope_parameters

Config = Mapping[str, Any]

_SCORES = ("score_function", "scoring_func", "score_func", "moe_router_activation", "expert_selection_fn")
_GATES = {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}
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
    "expert_gating_func": _SCORES,
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
_EXAONE_LAYERS = _COHERE_LAYERS = 64
_LEARNED = ("alpha_n", "alpha_p", "beta", "eps")
_WITHOUT_ARCHITECTURE = ("xielu.",)


def gguf_numbers(config: Config) -> dict[str, Number]:
    """Return a model's metadata by key, its tokenizer's and general ones apart; keys without the architecture.

    Raises StudioError where the config does not say what llama.cpp asks, or not as a number that can be.
    """
    try:
        return _numbers(config)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise not_written(
            say(
                "Its config.json does not say what llama.cpp asks: {name} {error}.",
                name=type(error).__name__,
                error=error,
            )
        ) from error


def _numbers(config: Config) -> dict[str, Number]:
    traits = gguf_traits(config)
    found = {key: _first(config, names) for key, names in _COMMON.items()} | rope_numbers(config)
    for key in traits.without:
        found.pop(key, None)
    found["expert_gating_func"] = _GATES.get(str(found["expert_gating_func"]))
    found |= traits.fixed
    found |= {key: config[name] for key, name in traits.numbers.items() if config.get(name) is not None}
    if computed := _COMPUTED.get(str(config.get("wrapper"))) or _COMPUTED.get(str(config["model_type"])):
        found |= computed(config)
    return {key: _typed(key, value) for key, value in found.items() if value is not None}


def learned_numbers(names: Iterable[str], tensor: Callable[[str], torch.Tensor]) -> dict[str, Number]:
    """Return what GGUF holds as metadata though it is learned: Apertus' activation, a number a layer."""
    names = sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    found = {kind: [float(tensor(name)) for name in names if name.endswith(f".act_fn.{kind}")] for kind in _LEARNED}
    return {f"xielu.{kind}": values for kind, values in found.items() if values}


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


def _turned(config: Config) -> dict[str, Any]:
    """How much of a head rope turns."""
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {"rope.dimension_count": int(float(rope_parameters(config).get("partial_rotary_factor") or 1.0) * size)}


def _granite(config: Config) -> dict[str, Any]:
    return {"rope.dimension_count": config["hidden_size"] // config["num_attention_heads"]}


def _granite_hybrid(config: Config) -> dict[str, Any]:
    layers = attends(config)
    if all(layers) and config.get("position_embedding_type") != "rope":
        raise not_written(say("None of its layers knows positions."))
    keys = config["num_key_value_heads"]
    return {
        **_granite(config),
        "ssm.inner_size": config["mamba_expand"] * config["hidden_size"],
        "attention.head_count_kv": [keys if layer else 0 for layer in layers],
        "rope.scaling.finetuned": config.get("position_embedding_type") == "rope",
        **({} if all(layers) else {"context_length": 1 << 20}),
    }


def _nemotron_hybrid(config: Config) -> dict[str, Any]:
    kinds = config["layers_block_type"]
    if "moe" in kinds:
        raise not_written(say("Some of its layers are experts."))
    return {
        **_granite(config),
        "block_count": len(kinds),
        "feed_forward_length": [config["intermediate_size"] if kind == "mlp" else 0 for kind in kinds],
        "attention.head_count_kv": [config["num_key_value_heads"] if layer else 0 for layer in attends(config)],
        "ssm.inner_size": config["mamba_num_heads"] * config["mamba_head_dim"],
    }


def _qwen3_5(config: Config) -> dict[str, Any]:
    return {
        **_turned(config),
        "ssm.inner_size": config["linear_value_head_dim"] * config["linear_num_value_heads"],
        "full_attention_interval": config.get("full_attention_interval") or attends(config).index(True) + 1,
        "rope.dimension_sections": [*(rope_parameters(config).get("mrope_section") or (11, 11, 10)), 0],
    }


def _phi(config: Config) -> dict[str, Any]:
    return {**_turned(config), "attention.head_count_kv": config["num_attention_heads"]}


def _phi3(config: Config) -> dict[str, Any]:
    rope = rope_parameters(config)
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return {**_turned(config), "rope.scaling.original_context_length": original or config["max_position_embeddings"]}


def _windows(config: Config) -> dict[str, Any]:
    """Which layers see a window alone."""
    kinds = config.get("layer_types") if config.get("sliding_window") else None
    return {"attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds]} if kinds else {}


def _exaone4(config: Config) -> dict[str, Any]:
    if config.get("sliding_window") and config["num_hidden_layers"] != _EXAONE_LAYERS:
        raise not_written(say("llama.cpp knows such models with windows of 64 layers alone."))
    return _windows(config)


def _cohere(config: Config) -> dict[str, Any]:
    if config["use_qk_norm"] and config["num_hidden_layers"] < _COHERE_LAYERS:
        raise not_written(say("llama.cpp knows norms of queries and keys in such models of 64 layers and more."))
    return {}


def _olmoe(config: Config) -> dict[str, Any]:
    if config["num_key_value_heads"] != config["num_attention_heads"]:
        raise not_written(say("llama.cpp knows such models with as many keys as queries."))
    return {}


def _gpt2(config: Config) -> dict[str, Any]:
    return {"feed_forward_length": config.get("n_inner") or 4 * config["n_embd"]}


def _gpt_bigcode(config: Config) -> dict[str, Any]:
    if not config["multi_query"]:
        raise not_written(say("Its heads have keys of their own."))
    return _gpt2(config)


def _falcon(config: Config) -> dict[str, Any]:
    if config["alibi"] or not config["parallel_attn"]:
        raise not_written(
            say("llama.cpp knows Falcons that turn positions and attend beside their feed-forward layers.")
        )
    return {"attention.head_count_kv": falcon_key_heads(config)}


def _bloom(config: Config) -> dict[str, Any]:
    if config["apply_residual_connection_post_layernorm"]:
        raise not_written(say("Its residuals branch off after the norms."))
    size = config["hidden_size"]
    return {"feed_forward_length": 4 * size, "context_length": config.get("seq_length") or size}


def _hunyuan(config: Config) -> dict[str, Any]:
    """Its long context comes of a larger base; how long it is stands in no config."""
    rope = rope_parameters(config)
    if rope.get("rope_type") != "dynamic":
        return {}
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        "rope.freq_base": float(rope["rope_theta"] * rope.get("alpha", 50) ** (size / (size - 2))),
        "rope.scaling.type": "none",
        "rope.scaling.factor": 1.0,
        "rope.scaling.original_context_length": 256 * 1024,
        "context_length": 256 * 1024,
    }


def _lfm2(config: Config) -> dict[str, Any]:
    width = config["intermediate_size"]
    if config["block_auto_adjust_ff_dim"]:
        width = int((config["block_ffn_dim_multiplier"] or 1.0) * int(2 * width / 3))
        width = config["block_multiple_of"] * -(-width // config["block_multiple_of"])
    keys = config["num_key_value_heads"]
    return {
        "feed_forward_length": width,
        "attention.head_count_kv": [keys if kind != "conv" else 0 for kind in config["layer_types"]],
    }


def _mamba2(config: Config) -> dict[str, Any]:
    inner = config["expand"] * config["hidden_size"]
    return {"ssm.inner_size": inner, "ssm.time_step_rank": inner // config["head_dim"]}


def _falcon_h1(config: Config) -> dict[str, Any]:
    if config["mamba_rms_norm"] and config["mamba_norm_before_gate"]:
        raise not_written(say("llama.cpp knows such models with norms that come after the gate."))
    return {"ssm.time_step_rank": config["mamba_d_ssm"] // config["mamba_d_head"]}


def _latent(config: Config) -> dict[str, Any]:
    """Latent attention: one head for keys and values, as large as the latent; what heads make of it beside."""
    latent, turned = config["kv_lora_rank"], config["qk_rope_head_dim"]
    spread = rope_parameters(config).get("mscale_all_dim")
    return {
        "attention.head_count_kv": 1,
        "attention.key_length": latent + turned,
        "attention.key_length_mla": config["qk_nope_head_dim"] + turned,
        "expert_weights_norm": config.get("norm_topk_prob") or None,
        "rope.scaling.yarn_log_multiplier": None if spread is None else 0.1 * spread,
    }


def _gemma3n(config: Config) -> dict[str, Any]:
    spread = torch.distributions.Normal(0.0, 1.0)
    shares = torch.tensor(config["activation_sparsity_pattern"], dtype=torch.float32)
    return {**_windows(config), "activation_sparsity_scale": spread.icdf(shares).tolist()}


def _gemma4(config: Config) -> dict[str, Any]:
    layers, size = config["num_hidden_layers"], far_head_size(config)
    near = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    found = {
        **_windows(config),
        **dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), size),
        "rope.dimension_count_swa": int(config["head_dim"] * float(near.get("partial_rotary_factor") or 1.0)),
    }
    if config.get("use_double_wide_mlp"):
        width, alone = config["intermediate_size"], layers - config["num_kv_shared_layers"]
        found["feed_forward_length"] = [width if layer < alone else 2 * width for layer in range(layers)]
    keys = [layer_value(config, layer, "num_key_value_heads") for layer in range(layers)]
    return found | ({"attention.head_count_kv": keys} if len(set(keys)) > 1 else {})


def _mistral3(config: Config) -> dict[str, Any]:
    rope = rope_parameters(config)
    if config["model_type"] != "ministral3":
        return _turned(config)
    return {
        **_turned(config),
        "rope.scaling.yarn_log_multiplier": float(rope["mscale_all_dim"]),
        "attention.temperature_scale": float(rope["llama_4_scaling_beta"]),
    }


def _deep_stack(config: Config) -> dict[str, Any]:
    """How many layers take in what is seen."""
    return {"n_deepstack_layers": len((config.get("vision_config") or {}).get("deepstack_visual_indexes") or ())}


def _qwen3_next(config: Config) -> dict[str, Any]:
    return {key: value for key, value in _qwen3_5(config).items() if key != "rope.dimension_sections"}


def _phimoe(config: Config) -> dict[str, Any]:
    return {**_phi3(config), "rope.scaling.attn_factor": None}


def _ernie(config: Config) -> dict[str, Any]:
    shared = config["moe_intermediate_size"] * config["moe_num_shared_experts"]
    return {"expert_shared_feed_forward_length": shared or None}


def _lfm2_moe(config: Config) -> dict[str, Any]:
    keys = config["num_key_value_heads"]
    return {"attention.head_count_kv": [keys if layer else 0 for layer in attends(config)]}


def _hunyuan_moe(config: Config) -> dict[str, Any]:
    def same(name: str) -> Any:
        values = config.get(name)
        if isinstance(values, list) and len(set(values)) > 1:
            raise not_written(say("Its layers differ in their {name}.", name=name))
        return values[0] if isinstance(values, list) else values

    return {
        **_hunyuan(config),
        "expert_feed_forward_length": same("moe_intermediate_size") or config["intermediate_size"],
        "expert_used_count": same("moe_topk"),
        "expert_shared_count": same("num_shared_expert"),
    }


_COMPUTED: dict[str, Callable[[Config], dict[str, Any]]] = {
    "llama": _turned,
    "mistral": _turned,
    "mistral3": _mistral3,
    "ministral3": _mistral3,
    "gemma3n_text": _gemma3n,
    "gemma4_text": _gemma4,
    "qwen3_vl_text": _deep_stack,
    "qwen3_vl_moe_text": _deep_stack,
    "mixtral": _turned,
    "afmoe": _turned,
    "glm4_moe": _turned,
    "granitemoe": _granite,
    "granitemoeshared": _granite,
    "deepseek_v2": _latent,
    "deepseek_v3": _latent,
    "glm4_moe_lite": _latent,
    "qwen3_next": _qwen3_next,
    "qwen3_5_moe_text": _qwen3_5,
    "phimoe": _phimoe,
    "ernie4_5_moe": _ernie,
    "lfm2_moe": _lfm2_moe,
    "hunyuan_v1_moe": _hunyuan_moe,
    "smollm3": _turned,
    "arcee": _turned,
    "apertus": _turned,
    "granite": _granite,
    "granitemoehybrid": _granite_hybrid,
    "qwen3_5_text": _qwen3_5,
    "phi": _phi,
    "phi3": _phi3,
    "gpt_bigcode": _gpt_bigcode,
    "olmo3": _windows,
    "cohere2": _turned,
    "stablelm": _turned,
    "gpt_neox": _turned,
    "gpt2": _gpt2,
    "falcon": _falcon,
    "bloom": _bloom,
    "glm": _turned,
    "glm4": _turned,
    "cohere": _cohere,
    "olmoe": _olmoe,
    "exaone4": _exaone4,
    "nemotron": _turned,
    "nemotron_h": _nemotron_hybrid,
    "hunyuan_v1_dense": _hunyuan,
    "jais2": _turned,
    "lfm2": _lfm2,
    "mamba2": _mamba2,
    "falcon_h1": _falcon_h1,
}
