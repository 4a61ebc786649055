"""What somebody drops on the window or pastes into it, and where it belongs: told by what it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import StudioError
from qlora_studio.core.path_text import path_of_text, whole_path
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.files import data_names, hub_name, locate_dataset
from qlora_studio.storage.datasets.layout import DatasetChoice

_HUB_MODEL = re.compile(r"https?://huggingface\.co/([\w.-]+/[\w.-]+)(?:/tree/[\w.-]+)?/?")
_HUB_DATA = re.compile(r"https?://huggingface\.co/(datasets/[\w.-]+/[\w.-]+)(?:/tree/[\w.-]+)?/?")
_WEIGHTS = (".safetensors", ".gguf")
_KNOWN = say(
    "Drop a dataset (JSON Lines, JSON, CSV, TSV, Parquet, Arrow or text), a model (a folder with "
    "config.json, or a .gguf file), a run's folder or its zip, or a run.toml."
)


@dataclass
class Arrivals:
    """Texts that arrived together, sorted. `unknown` says of each of the rest, in a sentence, why it is of no use."""

    models: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    packs: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """What could have been dropped instead."""
        return _KNOWN if self.unknown else ""


def sorted_arrivals(texts: Sequence[str]) -> Arrivals:
    """Return paths and links by what they lead to. Looks at the disk."""
    found = Arrivals()
    for text in dict.fromkeys(text for text in texts if text.strip()):
        try:
            _sort(text.strip(), found)
        except (OSError, ValueError, RuntimeError) as error:  # no right to look, no such user, a zero in the name
            found.unknown.append(
                say(
                    "{text} cannot be looked at: {getattr}.",
                    text=text,
                    getattr=getattr(error, "strerror", None) or error,
                )
            )
    return found


def _sort(text: str, found: Arrivals) -> None:
    if data := _HUB_DATA.fullmatch(text):
        found.datasets.append(hub_name(f"https://huggingface.co/{data[1]}"))
    elif model := _HUB_MODEL.fullmatch(text):
        found.models.append(model[1])
    elif "://" in text and not text.lower().startswith("file:"):
        found.unknown.append(
            say("{text} is on the web: nothing is fetched from there. Save it to a file first.", text=text)
        )
    else:
        _sort_path(whole_path(path_of_text(text)), found)


def _sort_path(path: Path, found: Arrivals) -> None:
    name = path.name.lower()
    if path.is_dir():
        _sort_folder(path, found)
    elif not path.exists():
        found.unknown.append(say("There is nothing at {path}.", path=path))
    elif name.endswith(".gguf"):
        found.models.append(str(path))
    elif name.endswith(_WEIGHTS) or name == "config.json":
        _sort_folder(path.parent, found)
    elif name.endswith(".toml"):
        found.configs.append(str(path))
    elif name.endswith(".zip"):
        found.packs.append(str(path))
    elif data_names([path.name]):
        found.datasets.append(str(path))
    else:
        found.unknown.append(say("{name} is nothing that this program opens.", name=path.name))


def _sort_folder(path: Path, found: Arrivals) -> None:
    weights = sorted(path.glob("*.gguf"))
    if (path / "run.toml").is_file():
        found.runs.append(str(path))
    elif (path / "config.json").is_file():
        found.models.append(str(path))
    elif (path / "adapter_config.json").is_file():
        found.unknown.append(
            say(
                "{name} is an adapter. A run goes on from it by the setting “Go on from” on the Training page.",
                name=path.name,
            )
        )
    elif len(weights) == 1:
        found.models.append(str(weights[0]))
    elif weights:
        found.unknown.append(
            say("{name} holds {weights} GGUF files: drop the one that you mean.", name=path.name, weights=len(weights))
        )
    else:
        _sort_data_folder(path, found)


def _sort_data_folder(path: Path, found: Arrivals) -> None:
    try:
        locate_dataset(DatasetSource(path=str(path)))
    except StudioError as error:
        if not isinstance(error, DatasetChoice):  # which part of it is meant, is asked on the Data page
            found.unknown.append(
                say("{name} holds no model, no run and no dataset. {message}", name=path.name, message=error.message)
            )
            return
    found.datasets.append(str(path))
