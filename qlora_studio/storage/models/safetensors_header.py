"""The header of a safetensors file: which tensors lie in it. Reads a few kilobytes, never the weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError

_POINTER = b"version https://git-lfs"
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
    try:
        return _header(path)
    except OSError as error:
        raise StudioError(
            f"{path.name} cannot be read: {error.strerror or error}.",
            kind=FailureKind.MODEL_REFUSED,
            advice="See to it that it is a file which you may read.",
            detail=str(path),
        ) from error


def _header(path: Path) -> dict[str, TensorEntry]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if (begins := file.read(len(_POINTER))) == _POINTER:
            raise _pointer(path)
        length = int.from_bytes(begins[:8], "little")
        file.seek(8)
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


def _pointer(path: Path) -> StudioError:
    return StudioError(
        f"{path.name} holds no weights: git put a pointer to them there.",
        kind=FailureKind.MODEL_REFUSED,
        advice="Fetch them with `git lfs pull` in that folder.",
        detail=str(path),
    )


def _damaged(path: Path, why: str) -> StudioError:
    return StudioError(
        f"{path.name} is damaged: {why}.",
        kind=FailureKind.MODEL_REFUSED,
        advice="Download or copy the model again; an interrupted download leaves such files.",
        detail=str(path),
    )
