"""What the configs of tiny models say that also see pictures, for the exact models; and text parts of such alone."""

from typing import Any

VOCABULARY = 320
_IDS: dict[str, Any] = {"bos_token_id": 317, "eos_token_id": 318, "pad_token_id": 316}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
    **_IDS,
}
_EYES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_EYES: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 14,
    "out_hidden_size": 64,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}
_QWEN_IMAGE: dict[str, Any] = {"image_token_id": 300, "video_token_id": 301}
_SECTIONS: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_GEMMA4: dict[str, Any] = {
    **_SHAPE,
    "global_head_dim": 32,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 16,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.1,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}

EXACT_WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {**_SHAPE, "query_pre_attn_scalar": 16, "sliding_window": 64},
        "vision_config": _EYES,
        "mm_tokens_per_image": 4,
        "image_token_index": 300,
        "boi_token_index": 302,
        "eoi_token_index": 303,
    },
    "gemma4": {
        "text_config": _GEMMA4,
        "vision_config": {
            **_EYES,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 16,
            "position_embedding_size": 32,
        },
        "audio_config": None,
        "audio_token_id": 304,
        "image_token_id": 300,
        "video_token_id": 301,
        "boi_token_id": 302,
        "eoi_token_id": 303,
    },
    "gemma4_text": _GEMMA4,
    "gemma4_text+experts": {
        **_GEMMA4,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
    "qwen3_5": {
        "text_config": {
            **_SHAPE,
            "head_dim": 32,
            "num_hidden_layers": 4,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "layer_types": [*["linear_attention"] * 3, "full_attention"],
        },
        "vision_config": {key: value for key, value in _QWEN_EYES.items() if "deepstack" not in key},
        **_QWEN_IMAGE,
    },
    "mistral3": {
        "text_config": {"model_type": "mistral", **_SHAPE, "tie_word_embeddings": False, "sliding_window": None},
        "vision_config": {"model_type": "pixtral", **_EYES, "head_dim": 16},
        "image_token_index": 300,
        "tie_word_embeddings": False,
    },
    "mistral3+ministral3": {
        "text_config": {"model_type": "ministral3", **_SHAPE, "tie_word_embeddings": False, "rope_parameters": _YARN},
        "vision_config": {"model_type": "pixtral", **_EYES, "head_dim": 16},
        "image_token_index": 300,
        "tie_word_embeddings": False,
    },
    "ministral3": {**_SHAPE, "rope_parameters": _YARN},
    "llava": {
        "text_config": {"model_type": "llama", **_SHAPE, "tie_word_embeddings": False},
        "vision_config": {"model_type": "clip_vision_model", **_EYES, "projection_dim": 32},
        "image_token_index": 300,
        "tie_word_embeddings": False,
    },
    "qwen2_vl": {
        "text_config": {**_SHAPE, "rope_parameters": _SECTIONS},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14},
        **_QWEN_IMAGE,
        **_IDS,
    },
    "qwen2_5_vl": {
        "text_config": {**_SHAPE, "rope_parameters": _SECTIONS},
        "vision_config": {**{k: v for k, v in _QWEN_EYES.items() if "deep" not in k}, "fullatt_block_indexes": [0]},
        **_QWEN_IMAGE,
        **_IDS,
    },
    "qwen3_vl": {
        "text_config": {**_SHAPE, "rope_parameters": _SECTIONS},
        "vision_config": _QWEN_EYES,
        **_QWEN_IMAGE,
    },
    "qwen3_vl_moe": {
        "text_config": {
            **_SHAPE,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 48,
            "norm_topk_prob": True,
            "rope_parameters": _SECTIONS,
        },
        "vision_config": _QWEN_EYES,
        **_QWEN_IMAGE,
    },
    "gemma3n_text": {
        **_SHAPE,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 256,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "altup_num_inputs": 4,
        "laurel_rank": 64,
        "sliding_window": 64,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
}
# What the published configs say and transformers' classes do not; the converter goes by it.
PUBLISHED_WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma4": {"global_head_dim": 32},
    "gemma4_text": {"global_head_dim": 32},
    "gemma4_text+experts": {"global_head_dim": 32, "num_global_key_value_heads": 1},
}
