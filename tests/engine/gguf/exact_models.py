"""Tiny models and tokenizers whose every byte is the same on each machine: made of integers, not by a random generator.

What llama.cpp's converter makes of them stands in the folder `reference`; `python -m tests.engine.gguf.make_reference`
makes it again.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.engine.gguf.exact_mixtures import EXACT_MIXTURES, PUBLISHED_MIXTURES
from tests.engine.gguf.exact_wrappers import EXACT_WRAPPERS, PUBLISHED_WRAPPERS

VOCABULARY = 320
_SPACE = "\u2581"  # in sentencepiece
_IDS: dict[str, Any] = {"bos_token_id": 317, "eos_token_id": 318, "pad_token_id": 316}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **_IDS,
}
_HEAD = {**_SHAPE, "head_dim": 16}

_GPT = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, **_IDS}
_GLM = {**_HEAD, "rms_norm_eps": 1e-5}
_LAYERS = {**_HEAD, "num_hidden_layers": 4}
_STATE = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16, **_IDS}
_INSIDE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_GRANITE = {
    **_SHAPE,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
}
_GRANITE_HYBRID = {
    **_GRANITE,
    **_INSIDE,
    "shared_intermediate_size": 96,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
}
_FALCON_H1 = {
    **_HEAD,
    **_INSIDE,
    "mamba_d_ssm": 128,
    "attention_in_multiplier": 0.5,
    "attention_out_multiplier": 2.0,
    "ssm_multipliers": [0.5, 2.0, 0.25, 4.0, 0.125],
    "ssm_in_multiplier": 2.0,
    "ssm_out_multiplier": 0.5,
    "mlp_multipliers": [2.0, 0.5],
    "key_multiplier": 0.25,
    "lm_head_multiplier": 0.5,
    "embedding_multiplier": 4.0,
}

# By name, what a config says: of the family that the name begins with. Of some llama.cpp takes no other sizes.
EXACT: dict[str, dict[str, Any]] = {
    **EXACT_MIXTURES,
    **EXACT_WRAPPERS,
    "llama": _SHAPE,
    "llama+scaled": {
        **_HEAD,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "llama+pieces": {**_SHAPE, "vocab_size": 384},
    "mistral": {**_HEAD, "sliding_window": None},
    "smollm3": {**_LAYERS, "tie_word_embeddings": True},
    "arcee": _SHAPE,
    "apertus": _SHAPE,
    "granite": _GRANITE,
    "granitemoehybrid": {**_GRANITE_HYBRID, "layer_types": ["mamba", "attention"]},
    "granitemoehybrid+attention": {
        **_GRANITE_HYBRID,
        "layer_types": ["attention", "attention"],
        "position_embedding_type": "rope",
    },
    "qwen2": {**_SHAPE, "tie_word_embeddings": True},
    "qwen3": {**_SHAPE, "head_dim": 32},
    "qwen3_5_text": {
        **_LAYERS,
        "head_dim": 32,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "layer_types": [*["linear_attention"] * 3, "full_attention"],
    },
    "gemma": {**_HEAD, "num_hidden_layers": 2},
    "gemma2": {**_HEAD, "query_pre_attn_scalar": 16, "sliding_window": 64},
    "gemma3_text": {**_HEAD, "query_pre_attn_scalar": 16, "sliding_window": 64},
    "phi": {**_SHAPE, "num_key_value_heads": 4, "intermediate_size": 256},
    "phi3": {**_SHAPE, "original_max_position_embeddings": 256, "sliding_window": None},
    "starcoder2": {**_SHAPE, "sliding_window": None},
    "gpt_bigcode": {**_GPT, "n_inner": 256},
    "olmo": {**_SHAPE, "clip_qkv": 8.0},
    "olmo2": _SHAPE,
    "olmo3": {**_LAYERS, "sliding_window": 64},
    "cohere": {**_SHAPE, "logit_scale": 0.25},
    "cohere+norms": {**_SHAPE, "logit_scale": 0.25, "use_qk_norm": True, "num_hidden_layers": 64},
    "cohere2": {**_LAYERS, "logit_scale": 0.25, "sliding_window": 64},
    "stablelm": {**_SHAPE, "use_qkv_bias": True},
    "gpt_neox": {key: value for key, value in _SHAPE.items() if key != "num_key_value_heads"} | {"rotary_pct": 0.5},
    "gpt2": _GPT,
    "falcon": {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "new_decoder_architecture": True,
        **_IDS,
    },
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4, **_IDS},
    "glm": _GLM,
    "glm4": _GLM,
    "exaone4": {**_HEAD, "sliding_window": None, "layer_types": ["full_attention"] * 2},
    "exaone4+window": {**_HEAD, "sliding_window": 8, "sliding_window_pattern": 4, "num_hidden_layers": 64},
    "seed_oss": {**_HEAD, "attention_bias": True},
    "ernie4_5": _HEAD,
    "nemotron": _HEAD,
    "nemotron_h": {
        **_HEAD,
        "hybrid_override_pattern": "M*-",
        "ssm_state_size": 16,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 8,
    },
    "hunyuan_v1_dense": {**_HEAD, "eod_token_id": 318},
    "jais2": _HEAD,
    "lfm2": {**_SHAPE, "block_multiple_of": 32, "layer_types": ["conv", "full_attention"]},
    "mamba": _STATE,
    "falcon_mamba": _STATE,
    "mamba2": {**_STATE, "num_heads": 8, "head_dim": 16, "n_groups": 2, "chunk_size": 8},
    "falcon_h1": _FALCON_H1,
    "falcon_h1+norms": {**_FALCON_H1, "mamba_rms_norm": True, "mamba_norm_before_gate": False},
}
# What the families' published configs say and transformers' classes no longer do; the converter goes by it.
_PUBLISHED: dict[str, dict[str, Any]] = {
    **PUBLISHED_MIXTURES,
    **PUBLISHED_WRAPPERS,
    "gpt_neox": {"rotary_pct": 0.5},
    "gpt2": {"n_ctx": 256},
    "cohere2": {"rotary_pct": 1.0},
    "glm": {"seq_length": 256},
    "nemotron_h": {
        "hybrid_override_pattern": "M*-",
        "num_hidden_layers": 3,
        "rms_norm_eps": 1e-5,
        **dict.fromkeys(("layers_block_type", "layer_types", "num_experts_per_tok", "n_routed_experts")),
        **dict.fromkeys(("n_group", "topk_group")),
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "granitemoehybrid+attention": {"layer_types": ["attention", "attention"]},
}


# For parametrize: of each kind of layout one always, all of them among the slow tests.
_ALWAYS: tuple[str, ...] = ("llama", "llama+pieces", "gpt2", "bloom", "falcon", "gemma", "apertus", "qwen3_5_text")
_ALWAYS += ("granitemoehybrid", "mamba2", "falcon_h1", "mixtral", "gpt_oss", "gemma4", "mistral3")
EACH = [pytest.param(name, marks=() if name in _ALWAYS else pytest.mark.slow) for name in EXACT]


def exact_model(name: str) -> Any:
    """Return the model of a name."""
    config = CONFIG_MAPPING[name.partition("+")[0]](**EXACT[name])
    kind: Any = AutoModelForImageTextToText if "vision_config" in EXACT[name] else AutoModelForCausalLM
    model = kind.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(_numbers(key, tuple(parameter.shape))))
    return model


def exact_base(name: str, folder: Path) -> Path:
    """Save the model of a name with its tokenizer and return its folder. Its config says all, as published ones do."""
    model = exact_model(name)
    model.save_pretrained(folder)
    if name == "qwen3_vl_moe":
        _turn_experts(folder / "model.safetensors")
    saved = json.loads((folder / "config.json").read_text("utf-8"))
    config = {**model.config.to_dict(), **saved, **(published := _PUBLISHED.get(name, {}))}
    config = {key: value for key, value in config.items() if published.get(key, key) is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return exact_pieces(folder) if name.endswith("+pieces") else exact_tokenizer(folder)


def _turn_experts(file: Path) -> None:
    """Store experts as the published files do, which transformers turns when it loads them, and does not turn back."""
    tensors = load_file(file)
    turned = {name: tensor.transpose(1, 2).contiguous() for name, tensor in tensors.items() if ".experts." in name}
    save_file({**tensors, **turned}, file, {"format": "pt"})


def exact_tokenizer(folder: Path) -> Path:
    """Save a byte-level tokenizer with some merges, and added tokens of each kind."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("in", "g"), ("\u0120", "a"), ("o", "r")]
    vocabulary = {text: number for number, text in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    filled = [f"word{number}" for number in range(VOCABULARY - len(vocabulary) - 7)]
    made.add_tokens([AddedToken(text, normalized=False) for text in [*filled, "<tool>"]])
    special = ["<|user|>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|assistant|>"]
    made.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings["tokenizer_class"] = "GPT2Tokenizer"  # llama.cpp's converter goes by it
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def exact_pieces(folder: Path) -> Path:
    """Save a tokenizer of sentencepiece's kind, with the file that sentencepiece itself reads."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    merges = [("t", "h"), ("th", "e"), (_SPACE, "the"), ("i", "n"), ("in", "g"), (_SPACE, "a"), ("o", "r")]
    joined = ["".join(pair) for pair in merges]
    single = [chr(code) for code in range(ord("!"), ord("~") + 1)] + [_SPACE]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256)), *joined, *single]
    kinds = {0: 2, 1: 3, 2: 3, **dict.fromkeys(range(3, 259), 6)}
    scores = [-float(number) if number > 258 else 0.0 for number in range(len(pieces))]
    rows = [(text, scores[number], kinds.get(number, 1)) for number, text in enumerate(pieces)]
    (folder / "tokenizer.model").write_bytes(_sentencepiece_model(rows))
    vocabulary = {text: number for number, text in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    made.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>", "<|end|>")])
    made.add_tokens([AddedToken(text, normalized=False) for text in (_SPACE * 2, "<tool>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    added = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    settings |= {"added_tokens_decoder": {str(token.pop("id")): token for token in added}, "add_prefix_space": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _sentencepiece_model(rows: list[tuple[str, float, int]]) -> bytes:
    """Return a model file of sentencepiece: pieces with score and kind, byte-pair encoding, a space before all."""

    def field(number: int, data: bytes) -> bytes:
        size = len(data)
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        return bytes([number << 3 | 2]) + length + data

    pieces = [
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))
        for text, score, kind in rows
    ]
    trainer = field(2, bytes([3 << 3, 2, 0x98, 2, 1]))  # byte-pair encoding, and bytes for what has no piece
    return b"".join(pieces) + trainer + field(3, field(1, b"identity") + bytes([3 << 3, 1]))


def _numbers(name: str, shape: tuple[int, ...]) -> Any:
    """Return numbers that look random and are computed of their places: fp32, exactly the same everywhere."""
    count = int(np.prod(shape, dtype=np.int64))
    mixed = np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 24)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    units = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(44)).astype(np.float32) / np.float32(1 << 19) - 1
    if len(shape) < 2:
        return (units * np.float32(0.25) + np.float32(1 if name.endswith("norm.weight") else 0.5)).reshape(shape)
    return (units * np.float32(0.25)).reshape(shape)
