"""The models of a chat: base and tuned are one set of weights; merged and GGUF are read from what was exported.

Each is loaded when it is first asked. They stay side by side where memory has room for them; else the ones before go.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.export.formats import EXPORT_VARIANTS, answering_kinds, kind_of_text
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.context import Channel
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.model.adapted import release_memory
from qlora_studio.engine.model.adapter import adapter_folder, checkpoint_name, load_tuned
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.loading import load_plain
from qlora_studio.engine.model.original import merge_base
from qlora_studio.storage.runs.export_folder import exports_of
from qlora_studio.storage.runs.run_folder import RunFolder

_SHARE = 0.8  # of free memory that another model may take


@dataclass(frozen=True)
class ChatModel:
    """A model that answers, with the tokenizer of its own files."""

    model: Any
    tokenizer: Any


class ChatModels:
    """The models of one run, by variant: base, tuned, merged, gguf."""

    def __init__(self, job: ChatJob, device: Device, channel: Channel) -> None:
        self._run = RunFolder(job.run_dir)
        self._checkpoint = job.checkpoint
        self._device = device
        self._channel = channel
        self._loaded: dict[str, ChatModel] = {}

    def load(self, variant: str) -> ChatModel:
        """Return the model that answers as a variant. Raises StudioError where the run has none."""
        key = "tuned" if variant == "base" else variant
        if key not in self._loaded:
            self._channel.phase(Activity.LOADING_MODEL)
            self._loaded[key] = self._tuned() if key == "tuned" else self._exported(key)
            self._channel.phase(Activity.READY)
        return self._loaded[key]

    @contextmanager
    def answering(self, variant: str) -> Iterator[ChatModel]:
        """Yield a variant's model; as the base, the adapter is switched off meanwhile."""
        found = self.load(variant)
        if variant == "base":
            with found.model.disable_adapter():
                yield found
        else:
            yield found

    def _tuned(self) -> ChatModel:
        return ChatModel(*load_tuned(self._run, self._device, self._checkpoint, self._channel))

    def _exported(self, variant: str) -> ChatModel:
        folder = find_export(self._run, self._checkpoint, variant)
        files = sorted(folder.glob("*.safetensors" if variant == "merged" else "*.gguf"))
        self._make_room(sum(path.stat().st_size for path in files) * (1 if variant == "merged" else 2))
        dtype, device = self._device.compute_dtype, self._device.name
        if variant == "merged":
            return ChatModel(load_plain(folder, dtype=dtype, device=device), tokenizer_of(folder))
        config = self._run.config()
        base = merge_base(config.model.source, config.model.revision, config.quantization.original, self._channel)
        tokenizer = load_gguf_tokenizer(files[0])
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return ChatModel(load_gguf(files[0], base, dtype=dtype, device=device), tokenizer)

    def _make_room(self, needed: int) -> None:
        if self._loaded and needed > _free_bytes() * _SHARE:
            self._loaded.clear()
            release_memory()


def find_export(run: RunFolder, checkpoint: str, variant: str) -> Path:
    """Return the newest export of a run's checkpoint that answers as `merged` or `gguf`. Raises StudioError."""
    wanted, kinds = checkpoint_name(adapter_folder(run, checkpoint)), answering_kinds(variant)
    for path, manifest in exports_of(run.exports_path):
        if kind_of_text(manifest.format) in kinds and manifest.checkpoint == wanted:
            return path
    of = "final adapter" if wanted == "final" else f"checkpoint of step {wanted}"
    raise StudioError(
        f"This run has no {EXPORT_VARIANTS[variant]} of its {of}.",
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=f"Export one first: qlora-studio export {run.path} --to {kinds[0]}",
    )


def _free_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
