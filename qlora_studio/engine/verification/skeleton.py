"""A model as transformers would load it, held up where it would read the weights: modules on meta, and its sources.

The library's own loading runs up to there, so that classes, names, dtypes and quantization are those of a model that is
loaded whole. What it would do with all weights at once can then be done with those of a few modules at a time.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
)
from transformers.utils import logging

_LOADING = "_load_pretrained_model"  # of transformers: reads the weights of a model that is built


class CannotStream(Exception):
    """A model that can only be loaded whole, and why."""


class Skeleton:
    """A model without weights, and where each of them comes from, by the names that files have for them."""

    def __init__(self, model: Any, sources: Mapping[str, Any], settings: Any, device: str) -> None:
        self.model = model.eval()
        self._sources = sources
        self._settings = replace(settings, device_map={"": device})
        self.device = torch.device(device)
        self._names = dict(self._named())
        if settings.hf_quantizer is not None:
            settings.hf_quantizer.postprocess_model(model)

    def load(self, paths: Collection[str], *, but: Collection[str] = ()) -> None:
        """Load the weights below `paths` (all where one is empty), but not those below `but`, onto the device."""
        wanted = {
            stored: self._sources[stored]
            for stored, (name, _) in self._names.items()
            if _is_below(name, paths) and not _is_below(name, but)
        }
        logging.disable_progress_bar()
        convert_and_load_state_dict_in_model(self.model, wanted, self._settings)
        if self._settings.hf_quantizer is not None:
            self._settings.hf_quantizer._process_model_after_weight_loading(self.model)
        for path, module in self.model.named_modules():
            if _is_below(path, paths) and not _is_below(path, but):
                self._complete(module)

    def require_loaded(self, paths: Collection[str], *, but: Collection[str] = ()) -> None:
        """Raise CannotStream where a weight was not among the sources: tied to another one, or missing."""
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if tensor.is_meta and _is_below(name, paths) and not _is_below(name, but):
                raise CannotStream(f"{name} is not in its files")

    def source(self, name: str) -> Any:
        """Return what gives a weight by rows, by its name in memory; None where it is computed of several, or tied."""
        name = self.model.all_tied_weights_keys.get(name, name) if name not in self._plain else name
        stored = self._plain.get(name)
        found = self._sources[stored] if stored is not None else None
        return found if hasattr(found, "get_shape") else None

    def tensor(self, name: str) -> torch.Tensor:
        """Return a whole weight, by its name in memory, loaded for it."""
        if name not in {loaded for loaded, _ in self._names.values()}:
            name = self.model.all_tied_weights_keys.get(name, name)
        self.load([name])
        self.require_loaded([name])
        found: torch.Tensor = self.model.get_parameter_or_buffer(name).detach()
        return found

    @property
    def _plain(self) -> dict[str, str]:
        return {name: stored for stored, (name, pattern) in self._names.items() if pattern is None}

    def _named(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """Yield what each source is called in memory, and the pattern of a conversion that it takes part in."""
        mapping = self._settings.weight_mapping or []
        renamings = [item for item in mapping if isinstance(item, WeightRenaming)]
        converters = [item for item in mapping if isinstance(item, WeightConverter)]
        tensors, prefix = self.model.state_dict(), self.model.base_model_prefix
        for stored in self._sources:
            name, pattern = rename_source_key(stored, renamings, converters, prefix, tensors)
            if name not in tensors and stored in tensors:  # as the library itself does
                name, pattern = rename_source_key(stored, [], [], prefix, tensors)
            if name in tensors:
                yield stored, (name, pattern)

    def _complete(self, module: nn.Module) -> None:
        """Compute the buffers of a module that no file holds, as the library does after loading."""
        missing = [name for name, buffer in module._buffers.items() if buffer is not None and buffer.is_meta]
        for name in missing:
            module._buffers[name] = torch.empty_like(module._buffers[name], device=self.device)  # type: ignore[arg-type]
        if missing:
            owner = next((item for item in _owners(self.model, module)), self.model)
            owner._init_weights(module)


def skeleton_of(loading: Callable[[], Any], *, device: str) -> Skeleton:
    """Return the skeleton of the model that a call of `from_pretrained`, somewhere within `loading`, would load."""
    with _held_up():
        try:
            loading()
        except _HeldUp as found:
            return Skeleton(found.model, _sources_of(found), found.settings, device)
    raise CannotStream("it is not loaded by transformers")


def pristine(module: Any) -> Any:
    """Return a copy of a module that has no weights yet, to be put back in its place when those are to go.

    What is on meta is shared: it is replaced when it is loaded, and bitsandbytes' parameters cannot be copied there.
    """
    tensors = [item for item in [*module.parameters(), *module.buffers()] if item.is_meta]
    return copy.deepcopy(module, {id(item): item for item in tensors})


class _HeldUp(Exception):
    """Carries what was to be loaded out of the library."""

    def __init__(self, model: Any, tensors: Any, files: Any, settings: Any) -> None:
        self.model, self.tensors, self.files, self.settings = model, tensors, files, settings


@contextmanager
def _held_up() -> Iterator[None]:
    def hold(model: Any, tensors: Any, files: Any, settings: Any, *_: Any) -> Any:
        raise _HeldUp(model, tensors, files, settings)

    before = PreTrainedModel.__dict__[_LOADING]
    setattr(PreTrainedModel, _LOADING, staticmethod(hold))
    try:
        yield
    finally:
        setattr(PreTrainedModel, _LOADING, before)


def _sources_of(found: _HeldUp) -> Mapping[str, Any]:
    if found.tensors is not None:
        return found.tensors  # type: ignore[no-any-return]
    sources: dict[str, Any] = {}
    for file in found.files or ():
        opened: Any = safe_open(file, framework="pt", device="cpu")
        sources |= {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  it is no mapping
    return sources


def _owners(model: Any, module: nn.Module) -> Iterator[Any]:
    """Yield the models that a module lies in, the innermost first: each initializes its own."""
    inner = [item for item in model.modules() if isinstance(item, PreTrainedModel)]
    return (item for item in reversed(inner) if any(found is module for found in item.modules()))


def _is_below(name: str, paths: Collection[str]) -> bool:
    return any(not path or name == path or name.startswith(f"{path}.") for path in paths)
