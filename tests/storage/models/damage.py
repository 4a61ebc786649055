"""A tiny model in each of its forms, as other programs write them, and the bits of its small files flipped."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

from qlora_studio.core.errors import StudioError

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
}
ADAPTER: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "somebody/some-model",
    "alpha_pattern": {"model.layers.0.self_attn.q_proj": 8},
}
_LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


def make_model(folder: Path, **changes: Any) -> Path:
    """Write a model's folder: config, an index, and two files of weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    places = {"model.embed_tokens.weight": 1, "model.norm.weight": 1, "model.layers.0.mlp.up_proj.weight": 2}
    for number in (1, 2):
        tensors = {name: np.zeros((100, 64), np.float16) for name, place in places.items() if place == number}
        save_file(tensors, folder / f"model-0000{number}-of-00002.safetensors", metadata={"format": "pt"})
    names = {name: f"model-0000{place}-of-00002.safetensors" for name, place in places.items()}
    index = {"metadata": {"total_size": 38_400}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make_adapter(folder: Path, **changes: Any) -> Path:
    """Write an adapter's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER | changes))
    halves = {f"{_LORA}A.weight": np.zeros((2, 64), np.float32), f"{_LORA}B.weight": np.zeros((64, 2), np.float32)}
    save_file(halves, folder / "adapter_model.safetensors")
    return folder


def make_gguf(path: Path, *, vocabulary: int = 100) -> Path:
    """Write a GGUF file with its vocabulary, by the gguf package."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_vocab_size(vocabulary)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{number}" for number in range(100)])
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((128, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def flipped(path: Path, bits: range) -> Iterator[int]:
    """Flip these bits of a file, one at a time; in the end it is as it was."""
    whole = path.read_bytes()
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        yield bit
    path.write_bytes(whole)


def outcome(reading: Callable[[], object]) -> str:
    """Return what is told of something that is read: nothing where it is taken. Only our own errors come through."""
    try:
        reading()
    except StudioError as error:
        assert error.message and "\n" not in error.message and error.advice
        return error.message
    return ""
