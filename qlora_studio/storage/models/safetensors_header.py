"""The header of a safetensors file: which tensors lie in it. Reads a few kilobytes, never the weights.

What the header says is held against the file: each tensor has the bytes that its type and shape take, and all of them
together lie one after another, from the header's end to the file's.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import Unreadable, json_table
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import open_regular

_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 32 << 20  # bytes; those of the largest models have some hundred thousand
_MOST_VALUES = 1_000_000  # eight for each tensor
_MOST_DIMENSIONS = 8
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F4": 4}
_BITS |= {"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F6_E2M3": 6, "F6_E3M2": 6}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its dtype in the format's spelling, its shape, and where its bytes lie behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """A file's header: `raw` are the bytes before the data, tensors come in the order of theirs."""

    raw: bytes
    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Return the header of a file. Raises StudioError where the file is no safetensors file, or cut short."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if (begins := file.read(len(_POINTER))) == _POINTER:
                raise _pointer(path)
            length = int.from_bytes(begins[:8], "little")
            if size < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise _damaged(path, say("its header is longer than the file, or than any is"))
            file.seek(0)
            raw = file.read(8 + length)
    except OSError as error:
        raise StudioError(
            say("{name} cannot be read: {strerror}.", name=path.name, strerror=error.strerror or error),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("See to it that it is a file which you may read."),
            detail=str(path),
        ) from error
    return _header(path, raw, size)


def _header(path: Path, raw: bytes, size: int) -> SafetensorsHeader:
    try:
        table = json_table(raw[8:], limit=_LARGEST_HEADER, most=_MOST_VALUES, unique=True)
    except Unreadable as error:
        raise _damaged(path, say("its header is not readable, {error}", error=error)) from error
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, say("what its header says of the file is no text"))
    tensors = dict(sorted(_entries(path, table), key=lambda item: (item[1].start, item[1].end)))
    end = 0
    for name, tensor in tensors.items():
        if tensor.start != end:
            raise _damaged(
                path, say("the entry of {name} is nonsense: it does not lie behind the one before it", name=name[:80])
            )
        end = tensor.end
    if len(raw) + end != size:
        raise _damaged(path, say("it should have {raw:,} bytes and has {size:,}", raw=len(raw) + end, size=size))
    return SafetensorsHeader(raw, tensors, metadata)


def _entries(path: Path, table: dict[str, Any]) -> Iterator[tuple[str, TensorEntry]]:
    for name, value in table.items():
        match value:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
                entry = TensorEntry(dtype, tuple(shape), start, end)
            case _:
                raise _damaged(path, say("the entry of {name} is nonsense", name=name[:80]))
        counts = [*shape, start, end]
        if any(type(count) is not int or count < 0 for count in counts) or len(shape) > _MOST_DIMENSIONS:
            raise _damaged(path, say("the entry of {name} is nonsense", name=name[:80]))
        if dtype not in _BITS:
            raise _damaged(
                path, say("{name} is of a type that is not known ({dtype})", name=name[:80], dtype=dtype[:20])
            )
        if 8 * (end - start) != entry.count * _BITS[dtype]:
            raise _damaged(
                path, say("the entry of {name} is nonsense: its shape takes other bytes than it has", name=name[:80])
            )
        yield name, entry


def _pointer(path: Path) -> StudioError:
    return StudioError(
        say("{name} holds no weights: git put a pointer to them there.", name=path.name),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Fetch them with `git lfs pull` in that folder."),
        detail=str(path),
    )


def _damaged(path: Path, why: str) -> StudioError:
    return StudioError(
        say("{name} is damaged: {why}.", name=path.name, why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Download or copy the model again; an interrupted download leaves such files."),
        detail=str(path),
    )
