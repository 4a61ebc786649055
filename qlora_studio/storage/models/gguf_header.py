"""The header of a GGUF file: its metadata and tensors, read in milliseconds.

The gguf package's reader maps every string of the vocabulary into objects (3 s for a small model); this one passes over
the long lists and keeps their lengths.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.gguf_family import family_of_gguf

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_KEPT_ARRAY = 4096


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (long lists are given by their length, as an int), and each tensor's shape."""

    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(math.prod(shape) for shape in self.tensors.values())

    def value(self, key: str, default: Any = None) -> Any:
        """Return the metadata of `key`, where `{arch}` stands for the architecture."""
        architecture = str(self.metadata.get("general.architecture", ""))
        return self.metadata.get(key.replace("{arch}", architecture), default)


def read_gguf_header(path: Path) -> GgufHeader:
    """Return the header of a file. Raises StudioError where it is no GGUF file, or cut short."""
    try:
        with path.open("rb") as file:
            return _header(file)
    except (struct.error, ValueError, UnicodeDecodeError, KeyError, MemoryError, OverflowError) as error:
        raise StudioError(
            f"{path.name} is not a GGUF file, or it is damaged.",
            kind=FailureKind.MODEL_REFUSED,
            advice="Download or copy the model again.",
            detail=f"{path}: {error}",
        ) from error


def gguf_config(header: GgufHeader) -> dict[str, Any]:
    """Return the `config.json` that a GGUF file's metadata amounts to."""
    architecture = str(header.value("general.architecture", ""))
    tokens = header.value("tokenizer.ggml.tokens")
    config = {
        "model_type": family_of_gguf(architecture),
        "hidden_size": header.value("{arch}.embedding_length"),
        "num_hidden_layers": header.value("{arch}.block_count"),
        "num_attention_heads": header.value("{arch}.attention.head_count"),
        "num_key_value_heads": header.value("{arch}.attention.head_count_kv"),
        "head_dim": header.value("{arch}.attention.key_length"),
        "intermediate_size": header.value("{arch}.feed_forward_length"),
        "max_position_embeddings": header.value("{arch}.context_length"),
        "num_experts": header.value("{arch}.expert_count"),
        "num_experts_per_tok": header.value("{arch}.expert_used_count"),
        "moe_intermediate_size": header.value("{arch}.expert_feed_forward_length"),
        "vocab_size": header.value("{arch}.vocab_size") or (len(tokens) if isinstance(tokens, list) else tokens),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    return {key: value for key, value in config.items() if value is not None}


def _header(file: BinaryIO) -> GgufHeader:
    if file.read(4) != b"GGUF":
        raise ValueError("no GGUF signature")
    version, tensors, entries = _unpack(file, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version} is not known")
    metadata = {}
    for _ in range(entries):
        key = _string(file)
        (kind,) = _unpack(file, "<I")
        metadata[key] = _value(file, kind)
    return GgufHeader(metadata, dict(_tensor(file) for _ in range(tensors)))


def _tensor(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    name = _string(file)
    (dimensions,) = _unpack(file, "<I")
    if dimensions > 8:
        raise ValueError("a tensor of more than eight dimensions")
    shape = _unpack(file, f"<{dimensions}Q")
    file.seek(12, 1)  # type and offset
    return name, shape


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        return _array(file)
    return _unpack(file, "<" + _SCALARS[kind])[0]


def _array(file: BinaryIO) -> Any:
    kind, count = _unpack(file, "<IQ")
    if count <= _LONGEST_KEPT_ARRAY:
        return [_value(file, kind) for _ in range(count)]
    if kind in _SCALARS:
        file.seek(count * struct.calcsize(_SCALARS[kind]), 1)
    else:
        for _ in range(count):
            (length,) = _unpack(file, "<Q")
            file.seek(length, 1)
    return count


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    if length > 1 << 28:
        raise ValueError("a string of more than 256 MiB")
    return file.read(length).decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
