"""The models of a chat: base and tuned are one set of weights; merged and GGUF are read from what was exported.

Each is loaded when it is first asked, in 16 bits where they fit, else in 4. They stay side by side where memory has
room for them; else the ones before go. A GGUF is answered by a llama.cpp where there is one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.export.formats import EXPORT_VARIANTS, answering_kinds, kind_of_text
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.job import ChatJob
from qlora_studio.core.words import say
from qlora_studio.engine.chat.answering import Answering, LlamaCppModel, TorchModel
from qlora_studio.engine.chat.room import Room, room, sizes
from qlora_studio.engine.context import Channel
from qlora_studio.engine.data.plan import prompting_of
from qlora_studio.engine.gguf.llama_cpp import computes_on_card, has_llama_cpp
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.model.adapted import load_base, release_memory
from qlora_studio.engine.model.adapter import adapter_folder, checkpoint_name, load_tuned
from qlora_studio.engine.model.base import base_folder, tokenizer_of
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.original import merge_base, with_stored_quantization
from qlora_studio.storage.runs.export_folder import exports_of
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import TrustedRun


class ChatModels:
    """The models of one run, by variant: base, tuned, merged, gguf."""

    def __init__(self, job: ChatJob, device: Device, channel: Channel) -> None:
        self._run = TrustedRun(job.run_dir)
        self._checkpoint = job.checkpoint
        self._device = device
        self._channel = channel
        self._loaded: dict[str, Answering] = {}
        self._prompting = prompting_of(self._run.config(), self._run)

    def load(self, variant: str) -> Answering:
        """Return the model that answers as a variant. Raises StudioError where the run has none, or no memory has."""
        key = "tuned" if variant == "base" else variant
        if key not in self._loaded:
            self._channel.phase(Activity.LOADING_MODEL)
            loaders = {"tuned": self._tuned, "merged": self._merged, "gguf": self._gguf}
            self._loaded[key] = loaders[key]()
            self._channel.phase(Activity.READY)
        return self._loaded[key]

    @contextmanager
    def answering(self, variant: str) -> Iterator[Answering]:
        """Yield a variant's model; as the base, the adapter is switched off meanwhile."""
        found = self.load(variant)
        if variant == "base":
            with cast(TorchModel, found).model.disable_adapter():
                yield found
        else:
            yield found

    def close(self) -> None:
        """Let go of all of them."""
        self._let_go(list(self._loaded))

    def _tuned(self) -> Answering:
        trained = self._run.config()
        base = base_folder(trained.model.source, trained.model.revision, self._channel)
        config = self._fitting(base, with_stored_quantization(trained, base), "this run's model")
        model, tokenizer = load_tuned(self._run, self._device, self._checkpoint, self._channel, config)
        return TorchModel(model, tokenizer, _way(config, trained), self._prompting)

    def _merged(self) -> Answering:
        folder = find_export(self._run, self._checkpoint, "merged")
        whole = RunConfig().with_value("quantization.method", "none")
        config = self._fitting(folder, whole, "the merged model")
        model = load_base(folder, config, self._device).eval()
        return TorchModel(model, tokenizer_of(folder), _way(config, whole), self._prompting)

    def _gguf(self) -> Answering:
        file = next(iter(sorted(find_export(self._run, self._checkpoint, "gguf").glob("*.gguf"))))
        if has_llama_cpp():
            size = file.stat().st_size
            on_card = self._device.is_cuda and computes_on_card() and self._room().takes(size, alone=True)
            self._make_room(size, self._room(on_card), "the GGUF")
            return LlamaCppModel(file, on_card=on_card, prompting=self._prompting)
        config = self._run.config()
        base = merge_base(config.model.source, config.model.revision, config.quantization.original, self._channel)
        self._make_room(sizes(base, self._device.compute_dtype)[0], self._room(), "the GGUF, unpacked")
        tokenizer = load_gguf_tokenizer(file)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model = load_gguf(file, base, dtype=self._device.compute_dtype, device=self._device.name)
        return TorchModel(model, tokenizer, "unpacked", self._prompting)

    def _fitting(self, folder: Path, config: RunConfig, what: str) -> RunConfig:
        """Return the config that a folder's model is loaded by: in 4 bits where 16 do not fit."""
        whole, packed = sizes(folder, self._device.compute_dtype)
        found = self._room()
        if config.quantization.method == "none" and not found.takes(whole, alone=True):
            config = config.with_value("quantization.method", "nf4")
        is_whole = config.quantization.method == "none"
        self._make_room(whole if is_whole else packed, found, what if is_whole else f"{what} in 4 bits")
        return config

    def _make_room(self, size: int, found: Room, what: str) -> None:
        found.require(size, what)
        if not found.takes(size):
            self._let_go([name for name, model in self._loaded.items() if model.on_card == found.on_card])

    def _room(self, on_card: bool = True) -> Room:
        is_there = on_card and self._device.is_cuda
        return room(sum(model.held_bytes for model in self._loaded.values() if model.on_card == is_there), is_there)

    def _let_go(self, names: list[str]) -> None:
        for name in names:
            self._loaded.pop(name).close()
        release_memory()


def _way(used: RunConfig, wished: RunConfig) -> str:
    return "4bit" if used.quantization.method != wished.quantization.method == "none" else ""


def find_export(run: RunFolder, checkpoint: str, variant: str) -> Path:
    """Return the newest export of a run's checkpoint that answers as `merged` or `gguf`. Raises StudioError."""
    wanted, kinds = checkpoint_name(adapter_folder(run, checkpoint)), answering_kinds(variant)
    for path, manifest in exports_of(run.exports_path):
        if kind_of_text(manifest.format) in kinds and manifest.checkpoint == wanted:
            return path
    of = "final adapter" if wanted == "final" else f"checkpoint of step {wanted}"
    raise StudioError(
        say("This run has no {export_variants} of its {of}.", export_variants=EXPORT_VARIANTS[variant], of=of),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=say("Export one first: qlora-studio export {path} --to {kinds}", path=run.path, kinds=kinds[0]),
    )
