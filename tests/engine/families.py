"""Tiny random models of many families, and adapters for them, made by the libraries themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    Gemma4Config,
    GPT2Config,
    Idefics3Config,
    InternVLConfig,
    LlamaConfig,
    LlavaConfig,
    Mistral3Config,
    MistralConfig,
    MllamaConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3_5Config,
    Qwen3Config,
    Qwen3VLConfig,
    SmolVLMConfig,
    Starcoder2Config,
)

VOCABULARY = 320
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **_IDS,
}

FAMILIES: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama": lambda **more: LlamaConfig(**{**_SHAPE, "tie_word_embeddings": False, **more}),
    "llama_tied": lambda **more: LlamaConfig(**{**_SHAPE, "tie_word_embeddings": True, **more}),
    "mistral": lambda **more: MistralConfig(**{**_SHAPE, "head_dim": 16, **more}),
    "qwen2": lambda **more: Qwen2Config(**{**_SHAPE, "tie_word_embeddings": True, **more}),
    "qwen3": lambda **more: Qwen3Config(**{**_SHAPE, "head_dim": 32, **more}),
    "gemma2": lambda **more: Gemma2Config(**{**_SHAPE, "head_dim": 16, "query_pre_attn_scalar": 16, **more}),
    "gemma3": lambda **more: Gemma3TextConfig(**{**_SHAPE, "head_dim": 16, "query_pre_attn_scalar": 16, **more}),
    "phi3": lambda **more: Phi3Config(**{**_SHAPE, **more}),
    "starcoder2": lambda **more: Starcoder2Config(**{**_SHAPE, "sliding_window": None, **more}),
    "gpt2": lambda **more: GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=256, **{**_IDS, **more}),
}


_EYES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_IMAGE: dict[str, Any] = {"image_token_id": 300, "video_token_id": 301, "boi_token_id": 302, "eoi_token_id": 303}
_OLD_IMAGE: dict[str, Any] = {"image_token_index": 300, "boi_token_index": 302, "eoi_token_index": 303}
_GEMMA4_EYES: dict[str, Any] = {
    **_EYES,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 16,
    "position_embedding_size": 32,
}
_MROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_QWEN_IMAGE: dict[str, Any] = {"image_token_id": 300, "video_token_id": 301, "vision_start_token_id": 302}
_TEXT: dict[str, Any] = {**_SHAPE, "head_dim": 16}

# Language models inside models that also see pictures. `more` is of the text part.
WRAPPERS: dict[str, Callable[..., PreTrainedConfig]] = {
    "gemma3_wrapper": lambda **more: Gemma3Config(
        text_config={**_TEXT, "query_pre_attn_scalar": 16, **more},
        vision_config=_EYES,
        mm_tokens_per_image=4,
        **_OLD_IMAGE,
    ),
    "gemma4_wrapper": lambda **more: Gemma4Config(
        text_config={
            **_TEXT,
            "global_head_dim": 32,
            "num_global_key_value_heads": 1,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 16,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            **more,
        },
        vision_config=_GEMMA4_EYES,
        audio_config=None,
        audio_token_id=304,
        **_IMAGE,
    ),
    "qwen3_5_wrapper": lambda **more: Qwen3_5Config(
        text_config={
            **_TEXT,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
            **more,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 14,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
        },
        image_token_id=300,
        video_token_id=301,
    ),
    "mistral3_wrapper": lambda **more: Mistral3Config(
        text_config={"model_type": "mistral", **_TEXT, "tie_word_embeddings": False, **more},
        vision_config={"model_type": "pixtral", **_EYES, "head_dim": 16},
        image_token_index=300,
        tie_word_embeddings=False,
    ),
    "gemma4_audio_wrapper": lambda **more: Gemma4Config(
        text_config={
            **_TEXT,
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention", "full_attention"],
            **more,
        },
        vision_config=_GEMMA4_EYES,
        audio_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 32},
        audio_token_id=304,
        **_IMAGE,
    ),
    "qwen2_vl_wrapper": lambda **more: Qwen2VLConfig(
        text_config={**_SHAPE, "rope_parameters": _MROPE, **more},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        **_QWEN_IMAGE,
    ),
    "qwen2_5_vl_wrapper": lambda **more: Qwen2_5_VLConfig(
        text_config={**_SHAPE, "rope_parameters": _MROPE, **more},
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64},
        **_QWEN_IMAGE,
    ),
    "qwen3_vl_wrapper": lambda **more: Qwen3VLConfig(
        text_config={**_TEXT, "rope_parameters": {**_MROPE, "mrope_interleaved": True}, **more},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **_QWEN_IMAGE,
    ),
    "internvl_wrapper": lambda **more: InternVLConfig(
        text_config={"model_type": "qwen2", **_SHAPE, **more}, vision_config=_EYES, image_token_id=300
    ),
    "smolvlm_wrapper": lambda **more: SmolVLMConfig(
        text_config={"model_type": "llama", **_SHAPE, **more}, vision_config=_EYES, image_token_id=300, scale_factor=2
    ),
    "idefics3_wrapper": lambda **more: Idefics3Config(
        text_config={"model_type": "llama", **_SHAPE, **more}, vision_config=_EYES, image_token_id=300, scale_factor=2
    ),
    "mllama_wrapper": lambda **more: MllamaConfig(
        text_config={**_SHAPE, "cross_attention_layers": [1], **more},
        vision_config={
            **{name: size for name, size in _EYES.items() if name != "num_attention_heads"},
            "attention_heads": 2,
            "num_global_layers": 1,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
            "max_num_tiles": 1,
            "supported_aspect_ratios": [[1, 1]],
        },
        image_token_index=300,
    ),
    "llava_wrapper": lambda **more: LlavaConfig(
        text_config={"model_type": "llama", **_SHAPE, **more},
        vision_config={"model_type": "clip_vision_model", **_EYES, "projection_dim": 32},
        image_token_index=300,
    ),
}


def make_base(
    folder: Path,
    family: str,
    *,
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
    vocab_size: int = VOCABULARY,
    **more: Any,
) -> Path:
    """Save a random model of a family and return its folder. Norms and biases are random too, not ones and zeros."""
    torch.manual_seed(7)
    auto: Any = AutoModelForImageTextToText if family in WRAPPERS else AutoModelForCausalLM
    model = auto.from_config((FAMILIES | WRAPPERS)[family](vocab_size=vocab_size, **more)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def make_adapter(folder: Path, base: Path, *, edit: Callable[[PeftModel], None] | None = None, **lora: Any) -> Path:
    """Save an adapter with random, non-zero weights for a base and return its folder."""
    torch.manual_seed(11)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": False}
    model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **{**settings, **lora}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn_like(parameter)
                parameter.copy_(parameter * (1 + 0.1 * noise) if "magnitude" in name else parameter + 0.02 * noise)
    if edit:
        edit(model)
    model.save_pretrained(str(folder))
    return folder


def make_tokenizer(folder: Path) -> Path:
    """Save a byte-level tokenizer of 300-odd tokens with control tokens and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    trained.train_from_iterator(
        ["the quick brown fox jumps over the lazy dog. " * 3, "hello there, how are you?"], trainer
    )
    merges = json.loads(trained.to_str())["model"]["merges"]
    tokenizer = GPT2Tokenizer(
        vocab=trained.get_vocab(),
        merges=[tuple(merge) for merge in merges],  # type: ignore[misc]  # typed as strings; pairs are what it takes
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def make_gemma_like_tokenizer(folder: Path, *, has_prefix: bool = False) -> Path:
    """Save a sentencepiece-like tokenizer of 904 tokens, with runs of U+2581 and Gemma's marks among the added ones.

    `has_prefix`: a text begins with a space that nobody wrote, as Llama 2's do.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if has_prefix else spaces
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trained.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{number:02X}>" for number in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special)
    trained.train_from_iterator(Path("LICENSE").read_text("utf-8").splitlines(), trainer)
    content = json.loads(trained.to_str())
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    runs = [] if has_prefix else ["\u2581" * count for count in range(2, 6)]
    marks = ["<unused0>", "<start_of_turn>", "<end_of_turn>"]
    merges += [pair for run in runs if (pair := [run[1:], run[0]]) not in merges]
    for text in [*runs, *marks]:
        vocabulary.setdefault(text, len(vocabulary))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 4] + [
        {"id": vocabulary[text], "content": text, "special": text in marks[1:], **flags} for text in [*runs, *marks]
    ]
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """Load a plain model in its own dtype; one that also sees pictures, as the whole that it is."""
    is_wrapper = "vision_config" in json.loads((folder / "config.json").read_text("utf-8"))
    auto: Any = AutoModelForImageTextToText if is_wrapper else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype="auto", trust_remote_code=False).eval()


def live(base: Path, adapter: Path) -> Any:
    """Load a base with its adapter, unmerged."""
    return PeftModel.from_pretrained(load(base), adapter).eval()


def logits(model: Any, vocab_size: int = VOCABULARY) -> torch.Tensor:
    """Return the logits of a fixed sequence: shape (1, 24, vocabulary), fp32."""
    ids = torch.arange(3, 27).reshape(1, -1) * 7 % vocab_size
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=ids).logits
    return out.float()


def divergence(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Return the mean KL divergence, in nats a token, of (positions, vocabulary) log-probabilities."""
    return float((reference.exp() * (reference - other)).sum(dim=-1).mean())
