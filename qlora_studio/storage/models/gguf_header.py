"""The header of a GGUF file: its metadata and tensors, read in milliseconds, and held against the file's size.

The gguf package's reader maps every string of the vocabulary into objects (3 s for a small model); this one passes over
the long lists and keeps their lengths. No count, length or place in the file is believed before it is found to fit.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.gguf_family import family_of_gguf
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import open_regular

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_KEPT_ARRAY = 4096
_DEEPEST = 4  # lists in lists; no key that is known has such
# The largest that are published have some hundred entries, two thousand tensors, and lists of 500,000 merges.
_MOST_ENTRIES, _MOST_TENSORS, _MOST_STRINGS = 4096, 65_536, 1 << 21
_LONGEST_STRING = 4 << 20  # bytes; chat templates have some ten thousand
_MOST_KEPT = 64 << 20  # bytes of all strings
_USUAL_ALIGNMENT, _LARGEST_ALIGNMENT = 32, 1 << 16
# How many numbers a block of each type has, and how many bytes
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)}
_BLOCKS |= {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)}
_BLOCKS |= {16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)}
_BLOCKS |= {23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)}
_BLOCKS |= {34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)}


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
        return self.metadata.get(key.replace("{arch}", self.text("general.architecture")), default)

    def text(self, key: str) -> str:
        """Return the metadata of `key` where it is a text, else nothing."""
        found = self.metadata.get(key)
        return found if isinstance(found, str) else ""


def read_gguf_header(path: Path) -> GgufHeader:
    """Return the header of a file. Raises StudioError where it is no GGUF file, is damaged, or cut short."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return _Reader(file, os.fstat(file.fileno()).st_size).header()
    except _Damaged as error:
        raise _refused(path, str(error)) from error
    except OSError as error:
        raise _refused(path, say("it cannot be read: {strerror}", strerror=error.strerror or error)) from error


def gguf_config(header: GgufHeader) -> dict[str, Any]:
    """Return the `config.json` that a GGUF file's metadata amounts to."""
    tokens = header.value("tokenizer.ggml.tokens")
    config = {
        "model_type": family_of_gguf(header.text("general.architecture")),
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


class _Damaged(Exception):
    """What is wrong with a file, as the end of a sentence."""


class _Reader:
    """A file that is read from its beginning; what it says of itself is held against what is left of it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._place = self._kept = self._strings = 0

    def header(self) -> GgufHeader:
        if self._size < 24 or self._take(4) != b"GGUF":
            raise _Damaged("it does not begin as a GGUF file does")
        version, tensors, entries = self._numbers("<IQQ")
        if version not in (2, 3):
            raise _Damaged(_version_words(version))
        if entries > _MOST_ENTRIES or tensors > _MOST_TENSORS:
            raise _Damaged(f"it says that it holds {entries:,} entries and {tensors:,} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key, (kind,) = self._string(), self._numbers("<I")
            if key in metadata:
                raise _Damaged(f"it says {key[:80]!r} twice")
            metadata[key] = self._array(key) if kind == _ARRAY else self._value(kind, key)
        return GgufHeader(metadata, self._tensors(tensors, _alignment(metadata)))

    def _tensors(self, count: int, alignment: int) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        places: list[tuple[int, int, str]] = []
        for _ in range(count):
            name, shape, start, end = self._tensor()
            if name in found:
                raise _Damaged(f"it holds {name[:80]!r} twice")
            if start % alignment:
                raise _Damaged(f"{name[:80]!r} does not begin where the file's alignment has it")
            found[name] = shape
            places.append((start, end, name))
        begin, before = -(-self._place // alignment) * alignment, 0
        for start, end, name in sorted(places):
            if begin + end > self._size:
                raise _Damaged(f"it ends within {name[:80]!r}, as after a download that broke off")
            if start < before:
                raise _Damaged(f"{name[:80]!r} lies where another tensor lies")
            before = end
        return found

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return a tensor's name and shape, and where its bytes begin and end behind the header."""
        name, (dimensions,) = self._string(), self._numbers("<I")
        if dimensions > 8:
            raise _Damaged(f"{name[:80]!r} has {dimensions:,} dimensions")
        shape = self._numbers(f"<{dimensions}Q")
        kind, start = self._numbers("<IQ")
        if kind not in _BLOCKS:
            raise _Damaged(f"{name[:80]!r} is of a type that is not known ({kind})")
        block, size = _BLOCKS[kind]
        if shape and shape[0] % block:
            raise _Damaged(f"the rows of {name[:80]!r} are no whole blocks of its type")
        return name, shape, start, start + math.prod(shape) // block * size

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._string()
        if kind not in _SCALARS:
            raise _Damaged(f"{key[:80]!r} is of a type that is not known ({kind})")
        return self._numbers("<" + _SCALARS[kind])[0]

    def _array(self, key: str, depth: int = 1) -> Any:
        kind, count = self._numbers("<IQ")
        if kind in _SCALARS:
            size = count * struct.calcsize(_SCALARS[kind])
            if count > _LONGEST_KEPT_ARRAY:
                self._skip(size)
                return count
            self._require(size)
            return list(self._numbers(f"<{count}{_SCALARS[kind]}"))
        self._strings += count
        is_known = kind == _STRING or (kind == _ARRAY and depth < _DEEPEST)
        if not is_known or self._strings > _MOST_STRINGS:
            raise _Damaged(f"{key[:80]!r} is a list of {count:,} of type {kind}")
        if kind == _ARRAY:
            return [self._array(key, depth + 1) for _ in range(count)]
        if count <= _LONGEST_KEPT_ARRAY:
            return [self._string() for _ in range(count)]
        for _ in range(count):
            self._skip(self._numbers("<Q")[0])
        return count

    def _string(self) -> str:
        (length,) = self._numbers("<Q")
        self._kept += length
        if length > _LONGEST_STRING or self._kept > _MOST_KEPT:
            raise _Damaged(f"it holds a text of {length:,} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, count: int) -> bytes:
        self._require(count)
        self._place += count
        found = self._file.read(count)
        if len(found) != count:
            raise _Damaged("it was cut short while it was read")
        return found

    def _skip(self, count: int) -> None:
        self._require(count)
        self._place += count
        self._file.seek(count, os.SEEK_CUR)

    def _require(self, count: int) -> None:
        if count > self._size - self._place:
            raise _Damaged("it ends within its header")


def _alignment(metadata: dict[str, Any]) -> int:
    found = metadata.get("general.alignment", _USUAL_ALIGNMENT)
    if type(found) is not int or not 0 < found <= _LARGEST_ALIGNMENT or found & (found - 1):
        raise _Damaged(f"its alignment is said to be {str(found)[:80]}")
    return found


def _version_words(version: int) -> str:
    if version & 0xFFFF == 0 and version:
        return "it is written for computers of the other byte order"
    return f"it is of version {version}, and 2 and 3 are known"


def _refused(path: Path, why: str) -> StudioError:
    return StudioError(
        say("{name} is no GGUF file, or it is damaged: {why}.", name=path.name, why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Download or copy the model again."),
        detail=str(path),
    )
