"""What tells one family of models from another, each in one record; everything else they share.

Each entry of FAMILIES is compared with the classes of transformers, parameter by parameter
(tests/engine/model/test_model_shape_exact). How llama.cpp's files hold them is in gguf_family.py.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Flag = bool | str  # True, False, or the name of the config's key that says so
Mixer = Literal["attention", "delta", "state_space", "convolution"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family differs from llama. `defaults` stand for what its `config.json` may leave out.

    `mixer`: what mixes tokens in all layers but those that attend in full, or `parallel_mixers`, beside attention;
    `single_blocks`: a layer is a mixer or an MLP; `fused_out_proj`: the mixer's code takes the weight of its last layer
    past its forward, where no adapter is. `gated_attention`: queries come with a gate.
    `per_layer`: an embedding for each layer, and layers unlike in width, as in Gemma 4. `wrapper` is the kind of model
    that holds one of this family beside what sees pictures. `transposed`: its linear layers are stored as (inputs,
    outputs).
    """

    qkv_bias: Flag = False
    o_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    query_norm: Literal["", "head", "full"] = ""
    query_norm_key: str = ""
    norm: Literal["rms", "layer", "layer_plain", "none"] = "rms"
    norms: int = 2
    tied: bool = False
    gated: bool = True
    eager_only: bool = False
    attention_names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    mlp_names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    extra_kept: int = 0  # lone parameters of a layer: xIELU's two, for example
    sinks: bool = False
    published_in_mxfp4: bool = False
    softcap: bool = False
    activation: str = ""
    experts: bool = False
    expert_width_key: str = "intermediate_size"
    expert_bias: bool = False
    router_bias: bool = False
    latent_attention: bool = False
    gated_attention: bool = False
    mixer: Mixer = "attention"
    parallel_mixers: bool = False
    single_blocks: bool = False
    fused_delta: bool = False
    fused_out_proj: bool = False
    mamba_bias: Flag = "mamba_proj_bias"
    mamba_out_bias: Flag = "mamba_proj_bias"
    mamba_norm: Flag = True
    mlp_width_key: str = ""
    transposed: bool = False
    per_layer: bool = False
    wrapper: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


LLAMA = Family(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias")
_DELTA_RULE = Family(
    qkv_bias="attention_bias",
    o_bias="attention_bias",
    query_norm="head",
    mixer="delta",
    gated_attention=True,
    defaults={
        "head_dim": 256,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "full_attention_interval": 4,
    },
)
_SHORT_CONVOLUTION = Family(
    query_norm="head",
    mixer="convolution",
    tied=True,
    attention_names=("q_proj", "k_proj", "v_proj", "out_proj"),
    mlp_names=("w1", "w3", "w2"),
    defaults={"conv_L_cache": 3},
)
_LATENT_MIXTURE = Family(
    qkv_bias="attention_bias",
    o_bias="attention_bias",
    latent_attention=True,
    experts=True,
    expert_width_key="moe_intermediate_size",
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": Family(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias", tied=True),
    "mistral": Family(
        wrapper="mistral3",
        defaults={"num_key_value_heads": 8},
    ),
    "ministral": Family(defaults={"num_key_value_heads": 8}),
    "ministral3": Family(defaults={"num_key_value_heads": 8}),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        query_norm="head",
        defaults={"head_dim": 128},
    ),
    "qwen2_vl_text": Family(qkv_bias=True),
    "qwen2_5_vl_text": Family(qkv_bias=True),
    "qwen3_vl_text": Family(
        qkv_bias="attention_bias", o_bias="attention_bias", query_norm="head", defaults={"head_dim": 128}
    ),
    "qwen3_5_text": replace(_DELTA_RULE, wrapper="qwen3_5"),
    "qwen3_5_moe_text": replace(
        _DELTA_RULE, experts=True, expert_width_key="moe_intermediate_size", wrapper="qwen3_5_moe"
    ),
    "qwen3_next": replace(_DELTA_RULE, experts=True, expert_width_key="moe_intermediate_size", fused_delta=True),
    "gemma": Family(qkv_bias="attention_bias", o_bias="attention_bias", tied=True, defaults={"head_dim": 256}),
    "gemma2": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norms=4,
        tied=True,
        eager_only=True,
        softcap=True,
        defaults={"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 256000},
    ),
    "gemma3_text": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        query_norm="head",
        norms=4,
        tied=True,
        wrapper="gemma3",
        defaults={"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208},
    ),
    "gemma4_text": Family(
        query_norm="head",
        norms=4,
        tied=True,
        per_layer=True,
        expert_width_key="moe_intermediate_size",
        defaults={
            "head_dim": 256,
            "hidden_size": 2304,
            "hidden_size_per_layer_input": 256,
            "intermediate_size": 9216,
            "num_attention_heads": 8,
            "num_hidden_layers": 30,
            "num_key_value_heads": 4,
            "vocab_size": 262144,
            "vocab_size_per_layer_input": 262144,
        },
    ),
    "phi3": Family(
        attention_names=("qkv_proj", "o_proj"),
        mlp_names=("gate_up_proj", "down_proj"),
        defaults={"sliding_window": 0},
    ),
    "phi": Family(
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        head_bias=True,
        norm="layer",
        norms=1,
        gated=False,
        activation="gelu_new",
        attention_names=("q_proj", "k_proj", "v_proj", "dense"),
        mlp_names=("fc1", "fc2"),
    ),
    "olmo": Family(qkv_bias="attention_bias", o_bias="attention_bias", norm="none"),
    "olmo2": Family(qkv_bias="attention_bias", o_bias="attention_bias", query_norm="full"),
    "olmo3": Family(qkv_bias="attention_bias", o_bias="attention_bias", query_norm="full"),
    "cohere": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norm="layer_plain",
        norms=1,
        tied=True,
        query_norm="full",
        query_norm_key="use_qk_norm",
    ),
    "cohere2": Family(qkv_bias="attention_bias", o_bias="attention_bias", norm="layer_plain", norms=1, tied=True),
    "starcoder2": Family(
        qkv_bias="use_bias",
        o_bias="use_bias",
        mlp_bias="use_bias",
        norm="layer",
        gated=False,
        tied=True,
        mlp_names=("c_fc", "c_proj"),
        defaults={"use_bias": True, "num_key_value_heads": 2},
    ),
    "stablelm": Family(qkv_bias="use_qkv_bias", norm="layer"),
    "gpt_neox": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias=True,
        norm="layer",
        gated=False,
        attention_names=("query_key_value", "dense"),
        mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        defaults={"attention_bias": True},
    ),
    "glm": Family(
        qkv_bias="attention_bias", mlp_names=("gate_up_proj", "down_proj"), defaults={"attention_bias": True}
    ),
    "glm4": Family(
        qkv_bias="attention_bias", norms=4, mlp_names=("gate_up_proj", "down_proj"), defaults={"attention_bias": True}
    ),
    "exaone4": Family(query_norm="head"),
    "seed_oss": Family(
        qkv_bias="attention_bias",
        o_bias="attention_out_bias",
        mlp_bias="mlp_bias",
        defaults={"attention_bias": True, "head_dim": 128},
    ),
    "ernie4_5": Family(
        qkv_bias="use_bias", o_bias="use_bias", mlp_bias="use_bias", tied=True, defaults={"head_dim": 128}
    ),
    "arcee": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias="mlp_bias",
        gated=False,
        mlp_names=("up_proj", "down_proj"),
    ),
    "apertus": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        query_norm="head",
        gated=False,
        mlp_names=("up_proj", "down_proj"),
        extra_kept=2,
    ),
    "mixtral": Family(experts=True, defaults={"num_key_value_heads": 8, "num_local_experts": 8}),
    "qwen2_moe": Family(
        qkv_bias=True,
        experts=True,
        expert_width_key="moe_intermediate_size",
    ),
    "qwen3_moe": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        query_norm="head",
        experts=True,
        expert_width_key="moe_intermediate_size",
    ),
    "olmoe": Family(qkv_bias="attention_bias", o_bias="attention_bias", query_norm="full", experts=True),
    "granitemoe": Family(qkv_bias="attention_bias", o_bias="attention_bias", experts=True),
    "phimoe": Family(qkv_bias="attention_bias", o_bias="attention_bias", norm="layer", experts=True),
    "gpt_oss": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        sinks=True,
        published_in_mxfp4=True,
        eager_only=True,
        experts=True,
        expert_bias=True,
        router_bias=True,
        defaults={"attention_bias": True, "head_dim": 64},
    ),
    "deepseek_v3": _LATENT_MIXTURE,
    "glm4_moe_lite": replace(_LATENT_MIXTURE, defaults={"first_k_dense_replace": 1}),
    "glm4_moe": Family(
        qkv_bias="attention_bias",
        query_norm="head",
        query_norm_key="use_qk_norm",
        experts=True,
        expert_width_key="moe_intermediate_size",
        defaults={"first_k_dense_replace": 1},
    ),
    "ernie4_5_moe": Family(
        qkv_bias="use_bias",
        o_bias="use_bias",
        mlp_bias="use_bias",
        tied=True,
        experts=True,
        expert_width_key="moe_intermediate_size",
        router_bias=True,
        head_bias="use_bias",
    ),
    "lfm2": replace(_SHORT_CONVOLUTION, defaults={"conv_L_cache": 3, "block_auto_adjust_ff_dim": True}),
    "lfm2_moe": replace(_SHORT_CONVOLUTION, experts=True, expert_width_key="moe_intermediate_size"),
    "granitemoehybrid": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        experts=True,
        mixer="state_space",
        mlp_names=("input_linear", "output_linear"),
        mlp_width_key="shared_intermediate_size",
        defaults={"mamba_conv_bias": True},
    ),
    "nemotron_h": Family(
        mlp_bias="mlp_bias",
        norms=1,
        gated=False,
        experts=True,
        expert_width_key="moe_intermediate_size",
        mixer="state_space",
        single_blocks=True,
        fused_out_proj=True,
        mamba_bias="use_bias",
        mamba_out_bias="use_bias",
        mlp_names=("up_proj", "down_proj"),
        defaults={"head_dim": 128, "num_key_value_heads": 8},
    ),
    "falcon_h1": Family(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias="mlp_bias",
        mixer="state_space",
        parallel_mixers=True,
        fused_out_proj=True,
        mamba_out_bias="projectors_bias",
        mamba_norm="mamba_rms_norm",
        defaults={"mamba_conv_bias": True},
    ),
}

# Stored in ways of their own, and counted by their tensors, as a family that is not known.
_UNCOUNTED: dict[str, Family] = {
    "gpt2": Family(tied=True, transposed=True),
    "openai-gpt": Family(transposed=True),
    "imagegpt": Family(transposed=True),
}


def nearest_family(name: str) -> Family:
    """Return the family of a name, or the one whose name it begins with: gemma for gemma3n; llama for no such name."""
    known = FAMILIES | _UNCOUNTED
    return known[max((item for item in known if name.startswith(item)), key=len, default="llama")]


def wrapped_family(wrapper: str) -> str:
    """Return the name of the family inside a model that sees pictures, where its config leaves it out."""
    if not wrapper:
        return ""
    return next((name for name, family in FAMILIES.items() if family.wrapper == wrapper), f"{wrapper}_text")
