"""Run configs that ship with the program: TOML files under `resources/presets`, a title and a word on each on top."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_toml
from qlora_studio.core.words import say
from qlora_studio.storage.resources import resource

_RESOURCE = "resource:"


@dataclass(frozen=True)
class Preset:
    """A config to begin with. The model or dataset may be left open."""

    name: str
    title: str
    description: str
    config: RunConfig


@cache
def presets() -> tuple[Preset, ...]:
    """Return the presets: the starter project, those for a size of model, then the others."""
    found = [_preset(path) for path in _folder().glob("*.toml")]
    return tuple(sorted(found, key=lambda preset: (preset.name != "starter", _size(preset.name), preset.name)))


def load_preset(name: str) -> RunConfig:
    """Return the config of a preset; what it takes from the program's own files is named by its full path."""
    return with_resources(from_toml(preset_text(name)))


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets, without reading them."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def preset_text(name: str) -> str:
    """Return the TOML of a preset."""
    return (_folder() / f"{name}.toml").read_text("utf-8")


def with_resources(config: RunConfig) -> RunConfig:
    """Return the config with a dataset `resource:NAME` named by its full path."""
    path = config.data.path
    if not path.startswith(_RESOURCE):
        return config
    data = config.data.model_copy(update={"path": str(resource(path.removeprefix(_RESOURCE)))})
    return config.model_copy(update={"data": data})


def _preset(path: Path) -> Preset:
    """The comment on top is the title, a line, and the description, the rest."""
    lines = path.read_text("utf-8").splitlines()
    comment = [line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]]
    title, description = say(comment[0]), say(" ".join(comment[1:]))
    return Preset(name=path.stem, title=title, description=description, config=load_preset(path.stem))


def _size(name: str) -> float:
    """Most presets are named by the size of the model, in billions."""
    digits = "".join(takewhile(str.isdigit, name))
    return int(digits) if digits else math.inf


def _folder() -> Path:
    return resource("presets")
