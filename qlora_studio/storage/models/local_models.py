"""Models that other programs keep on this computer: LM Studio's, Ollama's, and the hub's cache.

Names of files, their sizes and Ollama's manifests are read, and nothing of the weights. Ollama's files have no names of
their own: `ollama:llama3.2:3b` is how a run config names such a model, as Ollama does.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.titles import OLLAMA
from qlora_studio.storage.foreign import read_bytes, read_json
from qlora_studio.storage.models.hub_cache import cached_snapshot, hub_cache

LM_STUDIO, OLLAMA_TITLE, HUB = "LM Studio", "Ollama", "Hugging Face"
_MOST = 500  # models of a program; and how many names of a folder are looked at, times ten
_LARGEST_MANIFEST = 1 << 20  # bytes; they have about a thousand
_LONGEST_PATH = 4096  # bytes
_PART = re.compile(r"\w[\w.-]{0,199}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_USUAL = ("registry.ollama.ai", "library")  # what Ollama leaves out of a name
_PIECE = re.compile(r"-0000[2-9]-of-|-000[1-9]\d-of-")  # of a GGUF in several files, all but the first
_NO_MODEL = "mmproj"  # what lets a model see lies beside it


@dataclass(frozen=True)
class LocalModel:
    """A model, the program that keeps it, how a run config names it, and what it takes of the disk, in bytes."""

    name: str
    keeper: str
    source: str
    size_bytes: int


def local_models() -> tuple[LocalModel, ...]:
    """Return the models that other programs keep here, by program and name. What cannot be read is passed over."""
    found: list[LocalModel] = []
    for models in (_of_lm_studio(), _of_ollama(), _of_the_hub()):
        found += islice(models, _MOST)
    return tuple(sorted(found, key=lambda model: (model.keeper, model.name.casefold())))


def ollama_file(name: str) -> Path | None:
    """Return the GGUF file of a model as Ollama names it, such as `llama3.2:3b`; None where there is none."""
    path, _, tag = name.partition(":")
    parts = (*path.split("/"), tag or "latest")
    parts = (*_USUAL[: max(0, 4 - len(parts))], *parts)
    if len(parts) != 4 or not all(_PART.fullmatch(part) for part in parts):
        return None
    files = (_file_of(place, place.joinpath("manifests", *parts)) for place in _ollama_places())
    return next(filter(None, files), None)


def _of_lm_studio() -> Iterator[LocalModel]:
    for place in _lm_studio_places():
        for folder in (model for owner in _folders(place) for model in _folders(owner)):
            name = f"{folder.parent.name}/{folder.name}"
            if (folder / "config.json").is_file() and (size := _size(folder, "*.safetensors")):
                yield LocalModel(name, LM_STUDIO, str(folder), size)
            for file in _names(folder, "*.gguf"):
                if _NO_MODEL not in file.name.lower() and not _PIECE.search(file.name) and (size := _size_of(file)):
                    yield LocalModel(file.stem, LM_STUDIO, str(file), size)


def _of_ollama() -> Iterator[LocalModel]:
    seen: set[str] = set()
    for place in _ollama_places():
        for manifest in _manifests(place / "manifests"):
            host, space, name, tag = manifest.parts[-4:]
            said = name if (host, space) == _USUAL else f"{space}/{name}" if host == _USUAL[0] else ""
            said = f"{said or f'{host}/{space}/{name}'}:{tag}"
            file = ollama_file(said)
            if said not in seen and file is not None:
                seen.add(said)
                yield LocalModel(said, OLLAMA_TITLE, f"{OLLAMA}{said}", _size_of(file))


def _of_the_hub() -> Iterator[LocalModel]:
    for folder in _folders(hub_cache()):
        kind, *parts = folder.name.split("--")
        name = "/".join(parts)
        if kind != "models" or len(parts) not in (1, 2) or not all(_PART.fullmatch(part) for part in parts):
            continue
        with suppress(OSError, ValueError):
            snapshot = cached_snapshot(name, "main")
            if snapshot is not None and (size := _size(snapshot, "*.safetensors")):
                yield LocalModel(name, HUB, name, size)


def _lm_studio_places() -> Iterable[Path]:
    """Return the folders of models: where a pointer says that LM Studio is at home, or where its settings say."""
    homes = [Path.home() / ".lmstudio", Path.home() / ".cache" / "lm-studio"]
    with suppress(FileNotFoundError, StudioError, UnicodeDecodeError):
        homes.insert(0, Path(read_bytes(Path.home() / ".lmstudio-home-pointer", limit=_LONGEST_PATH).decode().strip()))
    places = [home / "models" for home in homes]
    for home in homes:
        with suppress(FileNotFoundError, StudioError, KeyError, TypeError):
            places.append(Path(read_json(home / "settings.json", limit=_LARGEST_MANIFEST)["downloadsFolder"]))
    return dict.fromkeys(place for place in places if place.is_absolute())


def _ollama_places() -> Iterator[Path]:
    if own := os.environ.get("OLLAMA_MODELS"):
        yield Path(own)
    yield Path.home() / ".ollama" / "models"
    yield Path("/usr/share/ollama/.ollama/models")  # where its service on Linux keeps them


def _manifests(place: Path) -> Iterator[Path]:
    for host in _folders(place):
        for name in (name for space in _folders(host) for name in _folders(space)):
            yield from (file for file in _names(name, "*") if _PART.fullmatch(file.name))


def _file_of(place: Path, manifest: Path) -> Path | None:
    """Return the file of the weights that a manifest names."""
    try:
        layers: Any = read_json(manifest, limit=_LARGEST_MANIFEST, inside=place).get("layers")
    except (FileNotFoundError, StudioError):
        return None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and str(layer.get("mediaType")).endswith("image.model"):
            digest = _DIGEST.fullmatch(str(layer.get("digest")))
            file = place / "blobs" / f"sha256-{digest[1]}" if digest else None
            return file if file is not None and _size_of(file) else None
    return None


def _folders(place: Path) -> list[Path]:
    return [path for path in _names(place, "*") if path.is_dir()]


def _names(place: Path, pattern: str) -> list[Path]:
    """Return what lies in a folder, by name; of very many the first that are found."""
    with suppress(OSError, ValueError):
        return sorted(islice(place.glob(pattern), 10 * _MOST))
    return []


def _size(folder: Path, pattern: str) -> int:
    return sum(map(_size_of, _names(folder, pattern)))


def _size_of(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size if file.is_file() else 0
    return 0
