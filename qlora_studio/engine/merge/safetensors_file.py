"""Safetensors files, read in pieces: eight bytes of length, a header of JSON, then the tensors' bytes.

The safetensors package maps whole files or makes whole tensors; a merge wants the header's own bytes, and rows.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.models.folder import INDEX, weights_files
from qlora_studio.storage.models.safetensors_header import read_safetensors_header

_ALONE = "model.safetensors"  # the name that is found without an index
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. `offset` counts bytes from the beginning of the file's data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.size // self.rows if self.rows else 0

    @property
    def is_floating(self) -> bool:
        """Whether it holds weights, and not numbers of another kind."""
        return self.dtype in ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, eq=False)
class SafetensorsFile:
    """A file with its header, equal to itself alone.

    `header` holds the bytes before the data; tensors come in the order of their bytes.
    """

    path: Path
    header: bytes
    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]

    def read_rows(self, file: BinaryIO, tensor: StoredTensor, start: int, stop: int) -> torch.Tensor:
        """Return rows start..stop of a tensor as stored: shape (stop - start, ...), in memory of their own."""
        buffer = bytearray((stop - start) * tensor.row_bytes)
        file.seek(len(self.header) + tensor.offset + start * tensor.row_bytes)
        if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
            raise _damaged(self.path, say("it ends within {name}", name=tensor.name))
        shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
        if not buffer:
            return torch.empty(shape, dtype=DTYPES[tensor.dtype])
        return torch.frombuffer(buffer, dtype=DTYPES[tensor.dtype]).reshape(shape)


class WeightsFolder:
    """The weights of a model: one file, or shards with an index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = tuple(read_header(item) for item in weights_files(path))

    @cached_property
    def places(self) -> Mapping[str, tuple[SafetensorsFile, StoredTensor]]:
        """Where each tensor lies, by name."""
        return {tensor.name: (file, tensor) for file in self.files for tensor in file.tensors}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.path.stat().st_size for file in self.files)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a whole tensor as stored."""
        stored_in, tensor = self.places[name]
        with stored_in.path.open("rb") as file:
            return stored_in.read_rows(file, tensor, 0, tensor.rows)

    def __iter__(self) -> Iterator[StoredTensor]:
        return (tensor for file in self.files for tensor in file.tensors)


def read_header(path: Path) -> SafetensorsFile:
    """Return a file's header, checked against the file's size. Raises StudioError."""
    header = read_safetensors_header(path)
    tensors = tuple(
        StoredTensor(name, entry.dtype, entry.shape, entry.start, entry.end - entry.start)
        for name, entry in header.tensors.items()
    )
    if unknown := {tensor.dtype for tensor in tensors} - set(DTYPES):
        raise StudioError(
            say("{name} holds weights of type {unknown}.", name=path.name, unknown=", ".join(sorted(unknown))),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Take the model in 16 bit: compressed weights can be neither trained nor merged here."),
        )
    return SafetensorsFile(path, header.raw, tensors, header.metadata)


def encode_header(tensors: list[tuple[str, str, tuple[int, ...], int]], metadata: dict[str, str]) -> bytes:
    """Return the bytes before the data for tensors of (name, dtype, shape, bytes), laid out one after another."""
    content: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, dtype, shape, size in tensors:
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(content, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # readers want aligned data
    return struct.pack("<Q", len(raw)) + raw


def write_index(folder: Path, places: Mapping[str, str], size: int) -> None:
    """Write which file holds each tensor, where it is not all in the one that is found by its name."""
    if set(places.values()) != {_ALONE}:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _damaged(path: Path, why: str) -> StudioError:
    return StudioError(
        say("{name} is damaged or incomplete: {why}.", name=path.name, why=why),
        kind=FailureKind.DAMAGED,
        advice=say("Download or copy the model again."),
    )
