"""Tiny random mixtures of experts of many families, and a tokenizer beside them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    PreTrainedConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from tests.engine.families import VOCABULARY, make_tokenizer
from tests.engine.tiny_families import tiny_config

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_GROUPED: dict[str, Any] = {**_SHAPE, "num_key_value_heads": 2}
_LATENT: dict[str, Any] = {
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
_GROUPS: dict[str, Any] = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}

MIXTURES: dict[str, Callable[..., PreTrainedConfig]] = {
    "qwen3_moe": lambda **more: Qwen3MoeConfig(
        **{**_GROUPED, "head_dim": 16, "num_experts": 4, "moe_intermediate_size": 32, **more}
    ),
    "qwen2_moe": lambda **more: Qwen2MoeConfig(
        **{**_GROUPED, "num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64, **more}
    ),
    "mixtral": lambda **more: MixtralConfig(**{**_GROUPED, "num_local_experts": 4, **more}),
    "olmoe": lambda **more: OlmoeConfig(**{**_GROUPED, "num_experts": 4, **more}),
    "granitemoe": lambda **more: GraniteMoeConfig(**{**_GROUPED, "num_local_experts": 4, **more}),
    "phimoe": lambda **more: PhimoeConfig(**{**_GROUPED, "num_local_experts": 4, **more}),
    "gpt_oss": lambda **more: GptOssConfig(**{**_GROUPED, "head_dim": 16, "num_local_experts": 4, **more}),
    "deepseek_v3": lambda **more: DeepseekV3Config(
        **{**_SHAPE, **_LATENT, **_GROUPS, "num_key_value_heads": 4, "n_routed_experts": 4},
        **{"moe_intermediate_size": 32, **more},
    ),
}

_OTHERS = (
    "deepseek_v2",
    "dots1",
    "ernie4_5_moe",
    "glm4_moe",
    "granitemoehybrid",
    "hunyuan_v1_moe",
    "laguna",
    "lfm2_moe",
    "qwen3_5_moe_text",
    "qwen3_next",
)
MIXTURES |= {name: partial(tiny_config, name) for name in _OTHERS}

# For parametrize: of two kinds of storage in files always, all of them among the slow tests
EACH = [pytest.param(name, marks=() if name in ("mixtral", "gpt_oss") else pytest.mark.slow) for name in MIXTURES]


def make_mixture(folder: Path, family: str, *, dtype: torch.dtype = torch.float32, **more: Any) -> Path:
    """Save a random model of a family with a tokenizer, and return its folder. No weight is left at 0 or 1."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(MIXTURES[family](**more)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    model.save_pretrained(folder)
    return make_tokenizer(folder)
