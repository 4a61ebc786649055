"""The adapter that a run goes on from: where it lies, and the settings that it brings."""

import os
from contextlib import suppress
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import json_table
from qlora_studio.core.model.adapter_config import ADAPTER_CONFIG, sound_adapter_config
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import open_regular, read_json
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.run_folder import RunFolder

_WEIGHTS = "adapter_model.safetensors"
_LONGEST_HEADER = 32 << 20  # bytes
_EXPERTS = frozenset({"experts", "base_layer"})  # as peft nests the adapters of stacked experts
_LOW_RANK = (".lora_A.", ".lora_embedding_A")


def parent_folder(start_from: str) -> Path:
    """Return the folder of the adapter that is meant: an adapter's own, one of a run, or that of an export.

    Of a run it is the final one or the newest; all of its adapters have the same settings. Raises StudioError.
    """
    found = None
    with suppress(OSError, ValueError):  # a name that no system has
        path = whole_path(start_from)
        places = [path, path / "training" / "adapter", path / "adapter", *CheckpointFolder(path / "checkpoints").all()]
        found = next((place for place in places if (place / ADAPTER_CONFIG).is_file()), None)
    if found is None:
        raise StudioError(
            say("There is no adapter to go on from in {start_from}.", start_from=start_from),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say(
                "Name a run, or a folder that holds {adapter_config} and {weights}.",
                adapter_config=ADAPTER_CONFIG,
                weights=_WEIGHTS,
            ),
        )
    return found


def run_around(folder: Path) -> RunFolder | None:
    """Return the run that an adapter is of: its own folder, above `adapter`, a checkpoint or an export's copy."""
    places = [place for place in (folder.resolve(), *folder.resolve().parents[:4]) if (place / "run.toml").is_file()]
    return next((RunFolder(place) for place in places if (place / "events.jsonl").is_file()), None)


def with_parent(config: RunConfig) -> RunConfig:
    """Return the config with rank, alpha, targets and kind of the adapter that it goes on from; itself without one."""
    if not config.lora.start_from:
        return config
    folder = parent_folder(config.lora.start_from)
    try:
        settings = sound_adapter_config(read_json(folder / ADAPTER_CONFIG, inside=folder), folder.name)
        modules = _modules(folder)
        lora = {
            "rank": settings.get("r", 8),
            "alpha": max(1, round(settings.get("lora_alpha", 8))),
            "rslora": bool(settings.get("use_rslora")),
            "dora": bool(settings.get("use_dora")),
            "target_modules": ",".join(sorted(modules - _EXPERTS)) or config.lora.target_modules,
            "experts": bool(modules & _EXPERTS),
        }
        return config.model_validate({**config.model_dump(), "lora": {**config.lora.model_dump(), **lora}})
    except (OSError, ValueError) as error:
        raise StudioError(
            say("The adapter in {folder} cannot be read.", folder=folder),
            kind=FailureKind.DAMAGED,
            advice=say("Copy it again, or go on from another one."),
            detail=str(error),
        ) from error


def _modules(folder: Path) -> set[str]:
    """Return the last parts of the names of the modules that an adapter changes, by its file's header.

    Never by the expression in its config, which may be anything. Empty where its weights are no safetensors.
    """
    try:
        with os.fdopen(open_regular(folder / _WEIGHTS, inside=folder), "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            names = json_table(file.read(min(length, _LONGEST_HEADER)), limit=_LONGEST_HEADER)
    except FileNotFoundError:
        return set()
    modules = {name.partition(mark)[0] for name in names for mark in _LOW_RANK if mark in name}
    return {module.rpartition(".")[2] for module in modules}
