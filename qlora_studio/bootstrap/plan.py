"""Which files are installed: what pip would take, asked once, so that each can be fetched alone and kept."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

_TORCH = ("torch", "triton", "pytorch-triton", "nvidia-", "cuda-")
_LARGE = ("torch", "triton", "nvidia", "cuda", "pyside6", "pyarrow", "bitsandbytes", "llm", "transformers", "xllamacpp")
_WEIGHTS = {"torch": 40, "nvidia": 12, "triton": 8, "pyside6": 4, "bitsandbytes": 4, "llm": 4}
_BATCH = 10  # small files that are fetched together: a pip takes a second to begin


@dataclass(frozen=True)
class Piece:
    """One file to install: its package, where it is, and what its bytes sum up to, where the index said that."""

    name: str
    version: str
    url: str
    sha256: str = ""

    @property
    def file_name(self) -> str:
        """The wheel's own name."""
        return unquote(Path(urlsplit(self.url).path).name)

    @property
    def here(self) -> Path | None:
        """Where it lies, if it is a file of this computer."""
        parts = urlsplit(self.url)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None

    @property
    def is_of_torch(self) -> bool:
        """Whether it differs from build to build of PyTorch: that itself, and what of CUDA it brings."""
        return self.name != "nvidia-ml-py" and self.name.startswith(_TORCH)

    @property
    def is_large(self) -> bool:
        """Whether it is fetched by itself."""
        return self.name.startswith(_LARGE)

    @property
    def weight(self) -> int:
        """About how much of the way it is: an index tells no sizes beforehand."""
        return next((weight for start, weight in _WEIGHTS.items() if self.name.startswith(start)), 1)


def pieces_of(report: Path) -> list[Piece]:
    """Return what pip's report of an installation names."""
    return [
        _piece_of(item["metadata"], item["download_info"]) for item in json.loads(report.read_text("utf-8"))["install"]
    ]


def package_name(name: str) -> str:
    """Return a package's name as an index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield what is fetched together: small ones by tens first, then each large one alone."""
    pieces = list(pieces)
    small = [piece for piece in pieces if not piece.is_large]
    for start in range(0, len(small), _BATCH):
        yield small[start : start + _BATCH]
    for piece in pieces:
        if piece.is_large:
            yield [piece]


def _piece_of(about: dict[str, str], download: dict[str, Any]) -> Piece:
    sums = download.get("archive_info", {}).get("hashes", {})
    return Piece(package_name(about["name"]), about["version"], download["url"], sums.get("sha256", ""))
