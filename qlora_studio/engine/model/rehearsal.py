"""Before anything is loaded: would what this run trains go into its base? By names and shapes alone, in seconds."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import get_peft_model_state_dict

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.formats import parse_format
from qlora_studio.core.model.adapter_config import ADAPTER_CONFIG
from qlora_studio.core.model.stored_quantization import stored_in_4_bits
from qlora_studio.core.words import say
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.merge.safetensors_file import CODES, encode_header
from qlora_studio.engine.merge.text_model import text_class
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.adapted import attach_adapters
from qlora_studio.engine.model.original import require_fitting
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.quantized_base import original_folder


def require_mergeable(base: Path, config: RunConfig, reporter: Reporter, parent: Path | None = None) -> None:
    """Raise StudioError where a run could not be merged in its end; tell it where it is to stay an adapter.

    A run that goes on from an adapter, `parent`, can be merged where that can be.
    """
    try:
        merge_rehearsal(base, config, parent)
        if config.export.merge and any(parse_format(text).traits.is_text_alone for text in config.export.formats):
            text_class(config_of(base))
    except StudioError as error:
        if config.export.merge:
            raise
        reporter.warn(
            "not_mergeable",
            say("What this run trains can be used as an adapter alone. {message}", message=error.message),
        )


def merge_rehearsal(base: Path, config: RunConfig, parent: Path | None = None) -> None:
    """Raise StudioError where the adapter that a run would train on a base could not be merged into it.

    The adapter is made on meta tensors and laid beside its base as a file that has a header and holes: what decides is
    the code that merges. That of a base that is stored in 4 bits goes into its original.
    """
    if stored_in_4_bits(read_config(base)):
        original = original_folder(base, config.model.source, config.quantization.original)
        require_fitting(base, original)
        base = original
    if parent is not None:
        MergedWeights(base, parent)
        return
    with TemporaryDirectory() as folder:
        _write_outline(_adapted_on_meta(base, config), Path(folder))
        MergedWeights(base, Path(folder))


def _adapted_on_meta(base: Path, config: RunConfig) -> Any:
    model = meta_model(config_of(base))
    with torch.device("meta"):
        return attach_adapters(model, config)


def _write_outline(model: Any, folder: Path) -> None:
    """Write an adapter as peft would, without its numbers."""
    tensors = [
        (name, CODES[tensor.dtype], tuple(tensor.shape), tensor.nbytes)
        for name, tensor in get_peft_model_state_dict(model).items()
    ]
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(encode_header(tensors, {"format": "pt"}))
        file.truncate(file.tell() + sum(size for *_, size in tensors))
    settings = model.peft_config["default"].to_dict()
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, default=_plain), encoding="utf-8")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)
