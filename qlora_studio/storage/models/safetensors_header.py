"""The header of a safetensors file: which tensors lie in it. Reads a few kilobytes, never the weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError

_LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "F4": 4}


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


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a file. Raises StudioError where the file is no safetensors file, or cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise _damaged(path, "its header is longer than the file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise _damaged(path, "its header is not readable") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    tensors = {name: _entry(path, name, value) for name, value in header.items() if name != "__metadata__"}
    expected = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if expected != size:
        raise _damaged(path, f"it should have {expected:,} bytes and has {size:,}")
    return tensors


def _entry(path: Path, name: str, value: object) -> TensorEntry:
    try:
        start, end = value["data_offsets"]  # type: ignore[index]
        entry = TensorEntry(value["dtype"], tuple(value["shape"]), start, end)  # type: ignore[index]
        right = entry.dtype not in _BITS or 8 * (end - start) == entry.count * _BITS[entry.dtype]
        if not 0 <= start <= end or not right:
            raise ValueError(name)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"the entry of {name} is nonsense") from error
    return entry


def _damaged(path: Path, why: str) -> StudioError:
    return StudioError(
        f"{path.name} is damaged: {why}.",
        kind=FailureKind.MODEL_REFUSED,
        advice="Download or copy the model again; an interrupted download leaves such files.",
        detail=str(path),
    )
