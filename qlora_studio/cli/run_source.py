"""Which run config a command means: a run file or a preset, then --model and --data, then --set."""

import argparse
import json
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import FailureKind, InvalidRunConfig, Problem, StudioError
from qlora_studio.core.model.recommendation import with_recommendations
from qlora_studio.core.path_text import is_there, whole_path
from qlora_studio.core.run.named_places import renamed
from qlora_studio.storage.foreign import read_toml
from qlora_studio.storage.models.catalogue import find_in_catalogue
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.presets import preset_names, preset_text, with_resources


def add_run_source(parser: argparse.ArgumentParser) -> None:
    """Add what names a run config: RUN.toml, --preset, --model, --data, --set."""
    parser.add_argument("run_file", nargs="?", metavar="RUN.toml", help="a run file; without one, the defaults")
    parser.add_argument("--preset", choices=preset_names(), help="begin with the settings of a preset")
    parser.add_argument("--model", metavar="M", help="hub id, folder, .gguf file, or `starter`")
    parser.add_argument(
        "--data",
        metavar="FILE",
        action="append",
        default=[],
        help="a dataset: a file, a folder, or owner/name on the hub; given again, the rows of all are taken together",
    )
    parser.add_argument(
        "--weights",
        metavar="W,W…",
        default="",
        help="how often the rows of each --data are seen in an epoch, such as 1,0.5",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.FIELD=VALUE",
        help="change one setting, such as training.epochs=3; may be given again",
    )


def run_config(arguments: argparse.Namespace) -> RunConfig:
    """Return the config that the arguments name, paths made absolute. Raises StudioError with every problem.

    Without a run file, rank and learning rate are those recommended for the model's size; --set overrules them.
    """
    data, base = _mapping(arguments)
    changes = [*_named(arguments), *_datasets(arguments), *arguments.overrides]
    config = from_mapping(data, changes)
    if not arguments.run_file and not arguments.preset:
        config = from_mapping(_recommended(config).model_dump(), changes)
    return _with_absolute_paths(with_resources(config), base)


def _mapping(arguments: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Return the settings to begin with, and the folder that paths in them may be relative to."""
    if arguments.run_file and arguments.preset:
        raise StudioError("Give a run file or a preset, not both.", kind=FailureKind.INVALID_CONFIG)
    if arguments.preset:
        return tomllib.loads(preset_text(arguments.preset)), Path.cwd()
    if not arguments.run_file:
        return {}, Path.cwd()
    path = Path(arguments.run_file)
    path = path / "run.toml" if path.is_dir() else path
    try:
        return read_toml(path), path.resolve().parent
    except FileNotFoundError as error:
        raise StudioError(
            f"The run file {path} cannot be read: {error.strerror}.",
            kind=FailureKind.RUN_NOT_FOUND,
            advice="Name a run.toml, or leave it out and give --model and --data.",
        ) from error


def _named(arguments: argparse.Namespace) -> list[str]:
    return [f"model.source={arguments.model}"] if arguments.model else []


def _datasets(arguments: argparse.Namespace) -> list[str]:
    """Return the settings for the datasets that are named, and for their weights."""
    weights = [word.strip() for word in arguments.weights.split(",") if word.strip()]
    if weights and len(weights) != len(arguments.data):
        words = f"Give as many weights as datasets: {len(arguments.data)}, not {len(weights)}."
        raise InvalidRunConfig((Problem("data.weight", words),))
    entries = [
        {"path": path, **({"weight": weight} if weight else {})}
        for path, weight in zip_longest(arguments.data, weights)
    ]
    first = [f"data.{name}={value}" for name, value in entries[0].items()] if entries else []
    return first + ([f"data.more={json.dumps(entries[1:])}"] if entries else [])


def _recommended(config: RunConfig) -> RunConfig:
    if not config.model.source:
        return config
    parameters = _parameters(config.model.source, config.model.revision)
    return with_recommendations(config, parameters) if parameters else config


def _parameters(source: str, revision: str) -> int:
    """Return the size of a model on this computer or in the catalogue, or 0."""
    location = locate_model(source, revision)
    if location.path:
        return model_facts(location).parameters
    known = find_in_catalogue(source)
    return known.parameters if known else 0


def _with_absolute_paths(config: RunConfig, base: Path) -> RunConfig:
    """A run must be repeatable from its own folder, so what lies on this computer is named in full."""
    return renamed(config, lambda _, name: _absolute(name, base))


def _absolute(name: str, base: Path) -> str:
    for path in (whole_path(name), base / name):
        if name and name != "starter" and is_there(path):
            return str(path.resolve())
    return name
