"""How llama.cpp's files hold each family that it knows: one record each, by transformers' `model_type`.

Every number and every tensor is held against llama.cpp's own converter (tests/engine/gguf/test_reference.py). What a
family computes of its config is in engine/gguf/numbers.py; how its tensors are rearranged, in
engine/gguf/rearrangement.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.config import text_config
from qlora_studio.core.words import say

Number = int | float | bool | str | list[int] | list[float] | list[bool]


@dataclass(frozen=True, kw_only=True)
class GgufTraits:
    """How a GGUF holds a family.

    `rotates_pairs`: rope turns neighbouring rows, so q and k are reordered. Norms get `norm_offset`. `numbers` are keys
    of a GGUF, by those of the config, beside what all families have; `fixed`, those whose value no config says;
    `without`, those of all families that this one does not have; `assumed`, what llama.cpp takes for granted of a
    config; `without_adapters`, layers in which it passes over an adapter that stands beside the model. `attention_only`
    is the architecture of a hybrid whose layers all attend; `tokenizer`, a kind of sentencepiece of its own. What
    `transformers_reads` from a GGUF is a second opinion on what is written.
    """

    architecture: str
    attention_only: str = ""
    tokenizer: str = ""
    transformers_reads: bool = False
    rotates_pairs: bool = False
    norm_offset: float = 0.0
    numbers: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Number] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)
    without_adapters: tuple[str, ...] = ()


_VOCABULARY = {"vocab_size": "vocab_size"}
_WINDOW = {"attention.sliding_window": "sliding_window"}
_LLAMA = GgufTraits(architecture="llama", transformers_reads=True, rotates_pairs=True, numbers=_VOCABULARY)
_UNSCALED = {"rope.scaling.type": "none"}
_GRANITE = {
    **_VOCABULARY,
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
_HEAD_SIZES = ("attention.key_length", "attention.value_length")
_EXPERTS = ("expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count")
_MAMBA = {
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "state_size",
    "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
}
_MAMBA_ONE = {**_MAMBA, "ssm.inner_size": "intermediate_size", "ssm.time_step_rank": "time_step_rank"}
_NO_ATTENTION = {"context_length": 1 << 20, "feed_forward_length": 0, "attention.head_count": 0}
_MAMBA_INSIDE = {
    "ssm.conv_kernel": "mamba_d_conv",
    "ssm.state_size": "mamba_d_state",
    "ssm.group_count": "mamba_n_groups",
}
_LINEAR_ATTENTION = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
}
_EXPERT_WIDTH = {"expert_feed_forward_length": "moe_intermediate_size"}
_SHARED_WIDTH = {**_EXPERT_WIDTH, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
_EVERYWHERE = {"decoder_sparse_step": 1, "mlp_only_layers": []}
_ROUTED = {
    **_EXPERT_WIDTH,
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_weights_norm": "norm_topk_prob",
}
_LATENT = {
    **_VOCABULARY,
    **_ROUTED,
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.value_length": "kv_lora_rank",
    "attention.value_length_mla": "v_head_dim",
    "rope.dimension_count": "qk_rope_head_dim",
}
_OF_LATENTS = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
_SIGMOID = {"expert_gating_func": 2}
_DEEPSEEK_V3 = GgufTraits(architecture="deepseek2", numbers=_LATENT, without_adapters=_OF_LATENTS, fixed=_SIGMOID)

GGUF_FAMILIES: dict[str, GgufTraits] = {  # an architecture of llama.cpp that several have is the first one's
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "smollm3": GgufTraits(architecture="smollm3", rotates_pairs=True, numbers=_VOCABULARY),
    "arcee": GgufTraits(architecture="arcee", rotates_pairs=True, numbers=_VOCABULARY),
    "apertus": GgufTraits(architecture="apertus", numbers=_VOCABULARY),
    "granite": GgufTraits(architecture="granite", rotates_pairs=True, numbers=_GRANITE, without=_HEAD_SIZES),
    "granitemoehybrid": GgufTraits(
        architecture="granitehybrid",
        attention_only="granite",
        rotates_pairs=True,
        numbers={
            **_GRANITE,
            **_MAMBA_INSIDE,
            "ssm.time_step_rank": "mamba_n_heads",
            "expert_shared_feed_forward_length": "shared_intermediate_size",
        },
        without=_HEAD_SIZES,
    ),
    "qwen2": GgufTraits(architecture="qwen2", transformers_reads=True),
    "qwen3": GgufTraits(architecture="qwen3", transformers_reads=True),
    "qwen3_5_text": GgufTraits(
        architecture="qwen35",
        numbers=_LINEAR_ATTENTION,
    ),
    "gemma": GgufTraits(architecture="gemma", norm_offset=1.0),
    "gemma2": GgufTraits(
        architecture="gemma2",
        transformers_reads=True,
        norm_offset=1.0,
        numbers={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            **_WINDOW,
        },
    ),
    "gemma3_text": GgufTraits(
        architecture="gemma3",
        transformers_reads=True,
        norm_offset=1.0,
        numbers={"final_logit_softcapping": "final_logit_softcapping", **_WINDOW},
    ),
    "gemma3n_text": GgufTraits(
        architecture="gemma3n",
        numbers={
            **_WINDOW,
            "final_logit_softcapping": "final_logit_softcapping",
            "altup.active_idx": "altup_active_idx",
            "altup.num_inputs": "altup_num_inputs",
            "embedding_length_per_layer_input": "hidden_size_per_layer_input",
            "attention.shared_kv_layers": "num_kv_shared_layers",
        },
        assumed={"altup_num_inputs": 4},
    ),
    "gemma4_text": GgufTraits(
        architecture="gemma4",
        tokenizer="gemma4",
        numbers={
            **_WINDOW,
            "final_logit_softcapping": "final_logit_softcapping",
            "embedding_length_per_layer_input": "hidden_size_per_layer_input",
            "attention.shared_kv_layers": "num_kv_shared_layers",
            "attention.key_length_swa": "head_dim",
            "attention.value_length_swa": "head_dim",
            "expert_feed_forward_length": "moe_intermediate_size",
        },
        fixed={"embedding_length_per_layer_input": 0},
        without_adapters=("per_layer_model_projection",),
    ),
    "mistral3": GgufTraits(architecture="mistral3", rotates_pairs=True, numbers=_VOCABULARY),
    "ministral3": GgufTraits(architecture="mistral3", rotates_pairs=True, numbers=_VOCABULARY),
    "qwen2_vl_text": GgufTraits(architecture="qwen2vl"),
    "qwen2_5_vl_text": GgufTraits(architecture="qwen2vl"),
    "qwen3_vl_text": GgufTraits(architecture="qwen3vl"),
    "qwen3_vl_moe_text": GgufTraits(
        architecture="qwen3vlmoe", numbers=_EXPERT_WIDTH, assumed={**_EVERYWHERE, "norm_topk_prob": True}
    ),
    "phi": GgufTraits(architecture="phi2"),
    "phi3": GgufTraits(
        architecture="phi3",
        transformers_reads=True,
        numbers=_WINDOW,
        fixed={"attention.sliding_window": 0},
        without=("rope.scaling.type", *_HEAD_SIZES),
    ),
    "starcoder2": GgufTraits(architecture="starcoder2", transformers_reads=True),
    "gpt_bigcode": GgufTraits(architecture="starcoder", fixed={"attention.head_count_kv": 1}),
    "olmo": GgufTraits(
        architecture="olmo",
        rotates_pairs=True,
        numbers={"attention.clamp_kqv": "clip_qkv"},
        fixed={"attention.layer_norm_epsilon": 1e-5},
    ),
    "olmo2": GgufTraits(architecture="olmo2"),
    "olmo3": GgufTraits(architecture="olmo2", numbers=_WINDOW),
    "cohere": GgufTraits(architecture="command-r", numbers={"logit_scale": "logit_scale"}, fixed=_UNSCALED),
    "cohere2": GgufTraits(
        architecture="cohere2", numbers={"logit_scale": "logit_scale", **_WINDOW, **_VOCABULARY}, fixed=_UNSCALED
    ),
    "stablelm": GgufTraits(architecture="stablelm", numbers={"use_parallel_residual": "use_parallel_residual"}),
    "gpt_neox": GgufTraits(architecture="gptneox", numbers={"use_parallel_residual": "use_parallel_residual"}),
    "gpt2": GgufTraits(architecture="gpt2"),
    "falcon": GgufTraits(
        architecture="falcon",
        numbers={"feed_forward_length": "ffn_hidden_size"},
        fixed={"tensor_data_layout": "jploski"},
    ),
    "bloom": GgufTraits(architecture="bloom", numbers={"attention.head_count_kv": "n_head"}),
    "glm": GgufTraits(architecture="chatglm", without=_HEAD_SIZES),
    "glm4": GgufTraits(architecture="glm4"),
    "exaone4": GgufTraits(architecture="exaone4", numbers={**_VOCABULARY, **_WINDOW}),
    "seed_oss": GgufTraits(architecture="seed_oss"),
    "ernie4_5": GgufTraits(architecture="ernie4_5"),
    "nemotron": GgufTraits(
        architecture="nemotron",
        norm_offset=1.0,
        numbers={**_VOCABULARY, "attention.layer_norm_epsilon": "norm_eps"},
        fixed=_UNSCALED,
    ),
    "nemotron_h": GgufTraits(
        architecture="nemotron_h",
        rotates_pairs=True,
        numbers={
            **_VOCABULARY,
            "ssm.conv_kernel": "conv_kernel",
            "ssm.state_size": "ssm_state_size",
            "ssm.group_count": "n_groups",
            "ssm.time_step_rank": "mamba_num_heads",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
        },
        fixed={"context_length": 1 << 20, "rope.scaling.finetuned": False},
        without=_EXPERTS,
    ),
    "hunyuan_v1_dense": GgufTraits(architecture="hunyuan-dense"),
    "jais2": GgufTraits(architecture="jais2"),
    "lfm2": GgufTraits(architecture="lfm2", numbers={**_VOCABULARY, "shortconv.l_cache": "conv_L_cache"}),
    "mamba": GgufTraits(
        architecture="mamba",
        numbers=_MAMBA_ONE,
        fixed={**_NO_ATTENTION, "ssm.dt_b_c_rms": False},
        without=("attention.layer_norm_epsilon",),
    ),
    "falcon_mamba": GgufTraits(
        architecture="mamba",
        numbers=_MAMBA_ONE,
        fixed={**_NO_ATTENTION, "ssm.dt_b_c_rms": True},
        without=("attention.layer_norm_epsilon",),
    ),
    "mamba2": GgufTraits(
        architecture="mamba2",
        numbers={**_MAMBA, "ssm.group_count": "n_groups"},
        fixed=_NO_ATTENTION,
        without=("attention.layer_norm_epsilon", *_HEAD_SIZES),
    ),
    "falcon_h1": GgufTraits(
        architecture="falcon-h1", numbers={**_VOCABULARY, **_MAMBA_INSIDE, "ssm.inner_size": "mamba_d_ssm"}
    ),
    "qwen2_moe": GgufTraits(
        architecture="qwen2moe",
        numbers=_SHARED_WIDTH,
        assumed={**_EVERYWHERE, "norm_topk_prob": False},
    ),
    "qwen3_moe": GgufTraits(
        architecture="qwen3moe", numbers=_EXPERT_WIDTH, assumed={**_EVERYWHERE, "norm_topk_prob": True}
    ),
    "mixtral": replace(_LLAMA, transformers_reads=False),
    "olmoe": GgufTraits(
        architecture="olmoe",
        fixed={"attention.layer_norm_rms_epsilon": 1e-5},
        assumed={"norm_topk_prob": False, "rms_norm_eps": 1e-5},
    ),
    "phimoe": GgufTraits(
        architecture="phimoe",
        numbers=_WINDOW,
        fixed={"attention.sliding_window": 0},
        without=("rope.scaling.type", *_HEAD_SIZES),
    ),
    "gpt_oss": GgufTraits(
        architecture="gpt-oss", numbers={**_WINDOW, "expert_feed_forward_length": "intermediate_size"}
    ),
    "deepseek_v2": GgufTraits(architecture="deepseek2", numbers=_LATENT, without_adapters=_OF_LATENTS),
    "deepseek_v3": GgufTraits(architecture="deepseek2", numbers=_LATENT, without_adapters=_OF_LATENTS, fixed=_SIGMOID),
    "glm4_moe_lite": GgufTraits(
        architecture="deepseek2", numbers=_LATENT, without_adapters=_OF_LATENTS, fixed=_SIGMOID
    ),
    "granitemoe": GgufTraits(architecture="granitemoe", rotates_pairs=True, numbers=_GRANITE, without=_HEAD_SIZES),
    "granitemoeshared": GgufTraits(
        architecture="granitemoe",
        rotates_pairs=True,
        numbers={**_GRANITE, "expert_shared_feed_forward_length": "shared_intermediate_size"},
        without=_HEAD_SIZES,
    ),
    "qwen3_next": GgufTraits(
        architecture="qwen3next",
        numbers={**_LINEAR_ATTENTION, **_SHARED_WIDTH},
        assumed={**_EVERYWHERE, "norm_topk_prob": True},
    ),
    "qwen3_5_moe_text": GgufTraits(
        architecture="qwen35moe",
        numbers={**_LINEAR_ATTENTION, **_SHARED_WIDTH},
        assumed={**_EVERYWHERE, "norm_topk_prob": True},
    ),
    "ernie4_5_moe": GgufTraits(
        architecture="ernie4_5-moe",
        numbers={
            **_EXPERT_WIDTH,
            "expert_count": "moe_num_experts",
            "expert_used_count": "moe_k",
            "expert_shared_count": "moe_num_shared_experts",
            "interleave_moe_layer_step": "moe_layer_interval",
            "leading_dense_block_count": "moe_layer_start_index",
        },
    ),
    "glm4_moe": GgufTraits(architecture="glm4moe", numbers=_ROUTED, fixed={**_SIGMOID, "nextn_predict_layers": 0}),
    "lfm2_moe": GgufTraits(
        architecture="lfm2moe",
        numbers={
            **_VOCABULARY,
            **_EXPERT_WIDTH,
            "shortconv.l_cache": "conv_L_cache",
            "leading_dense_block_count": "num_dense_layers",
        },
        fixed=_SIGMOID,
        assumed={"norm_topk_prob": True, "routed_scaling_factor": 1.0},
    ),
    "hunyuan_v1_moe": GgufTraits(
        architecture="hunyuan-moe", numbers={"expert_shared_feed_forward_length": "intermediate_size"}
    ),
    "dots1": GgufTraits(architecture="dots1", numbers=_ROUTED, fixed=_SIGMOID),
    "afmoe": GgufTraits(
        architecture="afmoe",
        numbers={
            **_VOCABULARY,
            **_WINDOW,
            **_EXPERT_WIDTH,
            "expert_shared_count": "num_shared_experts",
            "leading_dense_block_count": "num_dense_layers",
            "expert_weights_scale": "route_scale",
        },
        fixed={**_SIGMOID, "expert_weights_norm": True},
        assumed={"mup_enabled": True, "global_attn_every_n_layers": 4},
    ),
}
_ATTENDS = ("attention", "full_attention")  # what configs call a layer of a hybrid that attends


def gguf_traits(config: Mapping[str, Any]) -> GgufTraits:
    """Return how a GGUF holds a model's family. Raises StudioError for one that is not written here."""
    traits = GGUF_FAMILIES.get(config.get("wrapper", "")) or GGUF_FAMILIES.get(config.get("model_type", ""))
    if traits is None:
        raise not_written(
            say(
                "Models of the kind {model_type} are not among those that were tested.",
                model_type=config.get("model_type"),
            )
        )
    for key, value in traits.assumed.items():
        if config.get(key, value) != value:
            raise not_written(
                say(
                    "llama.cpp takes for granted that {key} is {value}; here it is {config}.",
                    key=key,
                    value=value,
                    config=config[key],
                )
            )
    if traits.attention_only and attends(config) and all(attends(config)):
        kind = f"{traits.attention_only}moe" if config.get("num_local_experts") else traits.attention_only
        return replace(traits, architecture=kind)
    return traits


def gguf_words(config: Mapping[str, Any]) -> str:
    """Return what a model's text part is in llama.cpp, as its config says; or why no GGUF is written of it."""
    try:
        return say("as llama.cpp's {architecture}", architecture=gguf_traits(text_config(config)).architecture)
    except StudioError as error:
        return f"not written: {error.message.partition('. ')[2]}"


def attends(config: Mapping[str, Any]) -> list[bool]:
    """Return of each layer of a hybrid whether it attends."""
    return [kind in _ATTENDS for kind in config.get("layer_types") or config.get("layers_block_type") or ()]


def not_written(why: str) -> StudioError:
    """Return the error that refuses a model."""
    return StudioError(
        say("This model cannot be written as a GGUF here. {why}", why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Export as safetensors, and convert with llama.cpp's own script."),
    )


def family_of_gguf(architecture: str) -> str:
    """Return transformers' name of llama.cpp's architecture."""
    return next(
        (name for name, traits in GGUF_FAMILIES.items() if traits.architecture == architecture),
        architecture,
    )
