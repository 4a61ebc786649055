"""A base in 4 bits as it was loaded, kept in the cache: next time a third of it is read, and nothing quantized.

What is kept is a model's folder as bitsandbytes' own are, read behind the same gates. It goes by the base's content, by
how that was quantized, and by which versions. Nothing of it is believed: its bytes are held against its hashes, its
settings against the base's, and some weights are quantized once more from the base's files and compared bit for bit.
What does not hold is told and removed, and the base is loaded from its files. No run fails for it.

Not kept are bases whose weights in memory are not one for one those of the files: stacked experts, and what a family
joins or splits while it is loaded. They are quantized each time.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from random import SystemRandom
from typing import Any

import torch
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.engine.merge.safetensors_file import CODES, WeightsFolder, encode_header
from qlora_studio.engine.merge.stored_names import loaded_names, names_in
from qlora_studio.engine.model.loading import from_files
from qlora_studio.engine.ranks.share import WHOLE, Share, decoder_layers
from qlora_studio.storage.durable import (
    DamagedManifest,
    NewerManifest,
    StagedFolder,
    disagreements,
    read_manifest,
    staged_folder,
)
from qlora_studio.storage.foreign import read_bytes
from qlora_studio.storage.models.folder import folder_tensors, read_config, weights_files
from qlora_studio.storage.models.kept_bases import KeptManifest, kept_path, missing_room, remove_kept, remove_oldest
from qlora_studio.storage.permissions import give
from qlora_studio.storage.runs.fingerprint import fingerprint_folder
from qlora_studio.storage.settings import load_settings

_LAYOUT = 1  # changes when what is kept is written or read otherwise
_LEAST = 64 << 20  # bytes of a base's files: what is smaller is quantized in no time
_DECIDE = ("bitsandbytes", "torch", "transformers")
_WEIGHTS, _CONFIG, _GENERATION = "model.safetensors", "config.json", "generation_config.json"
_LARGEST_SETTINGS = 4 << 20  # bytes
_BLOCK = 64  # numbers that share a scale
_COMPARED = 3  # weights, others each time
_CONVERTED = re.compile(r"-[0-9a-f]{16}$")  # behind the name of what was converted


def quantized_base(
    kind: Any, base: Path, packed: BitsAndBytesConfig, reporter: Reporter, share: Share = WHOLE, **how: Any
) -> Any:
    """Return a base as a model of a class of transformers, quantized: as it is kept, or from its files, and then kept.

    What is loaded is a `share` of its layers; a part is not kept.
    `how` is what both loads are told: `dtype`, `device_map`, `attn_implementation`.
    """
    if not load_settings().keep_bases or sum(path.stat().st_size for path in weights_files(base)) < _LEAST:
        return from_files(kind, base, quantization_config=packed, **how)
    try:
        kept = _KeptBase(kind, base, packed, reporter, share, how)
    except (OSError, StudioError):  # a cache that cannot be written; what is wrong with the base is told by its load
        return from_files(kind, base, quantization_config=packed, **how)
    model = kept.read()
    if model is None:
        model = from_files(kind, base, quantization_config=packed, **how)
        if share.is_whole:
            kept.write(model)
    return model


class _KeptBase:
    """The place of one base, quantized in one way, in the cache."""

    def __init__(
        self, kind: Any, base: Path, packed: BitsAndBytesConfig, reporter: Reporter, share: Share, how: Any
    ) -> None:
        self._kind, self._base, self._packed, self._how = kind, base, packed, how
        self._reporter, self._share = reporter, share
        self._name = _name_of(base)
        self._settings = dict(_settings(base, packed))
        self._folder = kept_path() / f"{self._name.replace('/', '--')}-{self._key()}"

    def read(self) -> Any | None:
        """Return the model as it is kept. None where it is not, and where that does not hold, which is told."""
        if not self._folder.exists():
            return None
        try:
            with told(_unusable):
                model = self._held()
                self._folder.touch()
            return model
        except NewerManifest:  # not this version's to remove
            return None
        except StudioError as error:
            self._reporter.warn(
                "kept_base",
                say(
                    "The 4-bit copy of {name} in the cache is removed and made again. {message}",
                    name=self._name,
                    message=error.message,
                ),
            )
            remove_kept(self._folder)
            return None

    def write(self, model: Any) -> None:
        """Keep a model that was just loaded from its files. What hinders that is told, and hinders nothing else."""
        if not _can_be_kept(model, self._base):
            return
        tensors = dict(_own_tensors(model))
        size = sum(tensor.nbytes for tensor in tensors.values())
        for free in missing_room(size):
            self._tell_not_kept(f"it takes {bytes_text(size)}, and {bytes_text(free)} are free")
            return
        try:
            with suppress(FileExistsError), staged_folder(self._folder) as staged:  # another process was faster
                self._write(staged, tensors)
            remove_oldest()
        except OSError as error:
            self._tell_not_kept(str(error.strerror or error))
        except StudioError as error:
            self._tell_not_kept(error.message.rstrip("."))

    def _key(self) -> str:
        """Return a hash of all that decides what is kept."""
        facts = [
            _LAYOUT,
            {name: version(name) for name in _DECIDE},
            fingerprint_folder(self._base).model_dump(),
            {name: data.decode() for name, data in self._settings.items()},
            self._kind.__name__,
            sorted(getattr(self._kind, "_keys_to_ignore_on_load_unexpected", None) or ()),  # parts that are left out
            str(self._how["dtype"]),
            _place(self._how["device_map"][""]),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _held(self) -> Any:
        """Return the model, once all that is kept is found to be what it should be. Raises StudioError."""
        try:
            manifest = read_manifest(self._folder, KeptManifest)
        except DamagedManifest as error:
            raise _wrong(say("Its manifest cannot be read.")) from error
        if manifest.files.keys() != {_WEIGHTS, *self._settings}:
            raise _wrong(say("It holds other files than it should."))
        for why in disagreements(self._folder, manifest):
            raise _wrong(say("Its {why}.", why=why))
        for name, data in self._settings.items():
            if read_bytes(self._folder / name, limit=_LARGEST_SETTINGS, inside=self._folder) != data:
                raise _wrong(say("Its {name} is not the base's.", name=name))
        stored = folder_tensors(self._folder)
        model = from_files(self._kind, self._folder, **self._how)
        if stored.keys() != dict(_own_tensors(model)).keys():
            raise _wrong(say("It holds other tensors than the model has."))
        self._require_same_weights(model)
        model.config.name_or_path = model.name_or_path = str(self._base)
        return model

    def _require_same_weights(self, model: Any) -> None:
        """Raise StudioError where one of some weights is not what its 16-bit original gives, bit for bit."""
        files, layers = WeightsFolder(self._base), _packed_layers(model)
        stored = names_in([model], files.places).stored
        for name in SystemRandom().sample(sorted(layers), min(_COMPARED, len(layers))):
            share = self._share if name.startswith(tuple(decoder_layers(model))) else WHOLE
            if not _is_made_of(layers[name], files.tensor(stored[name]), self._packed, self._how["dtype"], share):
                raise _wrong(say("Its {name} is not what the base's files give.", name=name))

    def _write(self, staged: StagedFolder, tensors: dict[str, torch.Tensor]) -> None:
        give(staged.path, 0o700)
        for name, data in self._settings.items():
            (staged.path / name).write_bytes(data)
        entries = [(name, CODES[item.dtype], tuple(item.shape), item.nbytes) for name, item in tensors.items()]
        header, digest, done = encode_header(entries, {"format": "pt"}), hashlib.sha256(), 0
        total = len(header) + sum(item.nbytes for item in tensors.values())
        with (staged.path / _WEIGHTS).open("xb") as file:
            for data in _pieces(header, tensors):
                done += file.write(data)
                digest.update(data)
                self._reporter.progress("keeping", done, total, "bytes")
        staged.hashes[_WEIGHTS] = digest.hexdigest()
        staged.manifest = KeptManifest(base=self._name)

    def _tell_not_kept(self, why: str) -> None:
        self._reporter.warn(
            "base_not_kept",
            say(
                "{name} in 4 bits is not kept in the cache: {why}. The next run quantizes it again.",
                name=self._name,
                why=why,
            ),
        )


def _settings(base: Path, packed: BitsAndBytesConfig) -> Iterator[tuple[str, bytes]]:
    """Yield the small files of a kept base: the base's own, and how it was quantized."""
    config = {**read_config(base), "quantization_config": packed.to_dict()}
    yield _CONFIG, json.dumps(config, sort_keys=True).encode()
    with suppress(FileNotFoundError):
        yield _GENERATION, read_bytes(base / _GENERATION, limit=_LARGEST_SETTINGS)


def _can_be_kept(model: Any, base: Path) -> bool:
    """Whether each tensor bears its own name in a file, and each 4-bit weight is a tensor of the base's files."""
    layers = _packed_layers(model)
    stored = names_in([model], folder_tensors(base)).stored
    if not layers or stacked_experts(model) or not layers.keys() <= stored.keys():
        return False
    tensors = dict(_own_tensors(model))
    own = [name for name in tensors if name.partition(".weight.")[0] + ".weight" not in layers or name in layers]
    renamed = any(name != found or pattern for name, found, pattern in loaded_names(model, own))
    return not renamed and all(tensor.dtype in CODES for tensor in tensors.values())


def _own_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a model by name, those that it shares once."""
    tensors, tied = model.state_dict(), getattr(model, "all_tied_weights_keys", None) or {}
    for name, tensor in tensors.items():
        other = tensors.get(tied.get(name, ""))
        if other is None or other.data_ptr() != tensor.data_ptr():
            yield name, tensor


def _packed_layers(model: Any) -> dict[str, Linear4bit]:
    """Return the 4-bit linear layers of a model by the full names of their weights."""
    return {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Linear4bit)}


def _is_made_of(
    layer: Any, original: torch.Tensor, packed: BitsAndBytesConfig, dtype: torch.dtype, share: Share
) -> bool:
    """Whether a layer's weight and all that belongs to it are, bit for bit, what its 16-bit original gives."""
    turned = original.T if issubclass(getattr(layer, "source_cls", object), Conv1D) else original
    made, state = quantize_4bit(
        turned.to(layer.weight.device, dtype).contiguous(),
        blocksize=_BLOCK,
        compress_statistics=packed.bnb_4bit_use_double_quant,
        quant_type=packed.bnb_4bit_quant_type,
    )
    expected, found = ({"": share.of(made), **state.as_dict(packed=True)}, {"": layer.weight.data, **_state_of(layer)})
    return expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def _state_of(layer: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = layer.weight.quant_state.as_dict(packed=True)
    return state


def _pieces(header: bytes, tensors: dict[str, torch.Tensor]) -> Iterator[Any]:
    """Yield the bytes of a safetensors file, a tensor at a time."""
    yield header
    for tensor in tensors.values():
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _name_of(base: Path) -> str:
    """Return what a base is called: its name on the hub, or its folder's; of one that was converted, the file's."""
    if base.parent.name == "snapshots":
        return base.parent.parent.name.removeprefix("models--").replace("--", "/")
    return _CONVERTED.sub("", base.name)


def _place(device: str) -> str:
    """Return on what a base is quantized: cards of other kinds round a few numbers otherwise."""
    return f"{torch.cuda.get_device_name(device)}" if torch.device(device).type == "cuda" else device


def _wrong(why: str) -> StudioError:
    return StudioError(why, kind=FailureKind.DAMAGED)


def _unusable(error: Exception) -> StudioError:
    return _wrong(say("It cannot be loaded: {name}.", name=type(error).__name__))
