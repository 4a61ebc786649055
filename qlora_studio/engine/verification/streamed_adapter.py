"""An adapter on a model whose layers come one at a time: peft's own modules, loaded with the layer that they change."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from qlora_studio.engine.expert_adapters import own_names, wrap_packed
from qlora_studio.engine.merge.adapter_delta import (
    adapter_weights,
    load_adapter,
    names_modules,
    plain_names,
    read_adapter_config,
    require_plain_update,
)
from qlora_studio.engine.model.saved_adapter import adapted_on_parameters, peft_config, rows_of_adapter
from qlora_studio.engine.verification.skeleton import CannotStream, pristine

_PREFIX = "base_model.model."
_NAME = "default"


def streamed_adapter(folder: Path, *, as_trained: bool) -> "StreamedAdapter":
    """Return the adapter in a folder, as `load_tuned` attaches it to its base, or as `with_saved_adapter` to any."""
    config = read_adapter_config(folder)
    require_plain_update(config)
    if config.get("target_parameters"):
        return StreamedAdapter(folder, _attach_to_parameters(folder), keeps_fp32=True)
    as_trained = as_trained and names_modules(config)
    attach = _attach_as_trained if as_trained else _attach_made_elsewhere
    return StreamedAdapter(folder, attach(folder), keeps_fp32=not as_trained)


class StreamedAdapter:
    """An adapter's folder, and how peft is asked to attach it to a model without weights."""

    def __init__(self, folder: Path, attach: Callable[[Any], Any], *, keeps_fp32: bool) -> None:
        """`keeps_fp32`: whether adapters stay in fp32, or take what peft gives them by the layer that they are on."""
        self._weights = adapter_weights(folder)
        self._names = plain_names(self._weights.places)
        self._attach = attach
        self._keeps_fp32 = keeps_fp32
        self._is_on: bool | None = None
        self._naming: Callable[[], AbstractContextManager[None]] = nullcontext

    def attached(self, model: Any) -> Any:
        """Return a copy of a model on meta with the adapter's modules."""
        modules = {name for name, _ in model.named_modules()}
        changed = {name.split(".lora_")[0].replace(".base_layer", "") for name in self._names if ".lora_" in name}
        self._naming = own_names if not self._keeps_fp32 or changed <= modules else nullcontext
        with torch.device("meta"), self._naming():
            copied = pristine(model)
            for module in copied.modules():
                if isinstance(module, bnb.nn.Linear4bit):
                    module.weight = _stand_in(module)
            return self._attach(copied).eval()

    def switch(self, adapted: Any, *, on: bool) -> None:
        """Switch the adapter on or off."""
        if on != self._is_on:
            (adapted.base_model.enable_adapter_layers if on else adapted.base_model.disable_adapter_layers)()
            self._is_on = on

    def load(self, base: Any, adapted: Any, path: str, *, but: Collection[str] = ()) -> None:
        """Give the modules below `path` of the adapted model the base's weights there, and their own."""
        self._is_on = None  # what is put in a module's place, later, is as it was now
        inner = adapted.get_base_model()
        _graft(base.get_submodule(path), inner.get_submodule(path), path, but)
        wrap_packed(inner.get_submodule(path))
        for name, module in inner.named_modules():
            if _is_within(name, path) and not any(_is_within(name, other) for other in but):
                self._materialize(module)
        tensors = {
            _PREFIX + plain: self._weights.tensor(stored)
            for plain, stored in self._names.items()
            if _is_within(plain, path) and not any(_is_within(plain, other) for other in but)
        }
        with self._naming():
            set_peft_model_state_dict(adapted, _of_wrappers(adapted) | tensors)

    def _materialize(self, module: Any) -> None:
        if not _is_adapter(module):
            return
        parameters: list[torch.Tensor] = list(module.parameters())
        device = next((item.device for item in parameters if not item.is_meta), torch.device("cpu"))
        for own in [*module.adapter_layer_names, *getattr(module, "other_param_names", ())]:
            part = getattr(module, own, None)
            if isinstance(part, nn.Module) and any(item.is_meta for item in [*part.parameters(), *part.buffers()]):
                part.to_empty(device=device)
        if isinstance(module, BaseTunerLayer) and not self._keeps_fp32:
            module._move_adapter_to_device_of_base_layer(_NAME)


def _attach_as_trained(folder: Path) -> Callable[[Any], Any]:
    """Return what attaches an adapter of ours as `PeftModel.from_pretrained` does, but for its numbers."""

    def attach(model: Any) -> Any:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        return get_peft_model(model, config, autocast_adapter_dtype=False)

    return attach


def _attach_made_elsewhere(folder: Path) -> Callable[[Any], Any]:
    """Return what attaches any adapter as `with_saved_adapter` does, but for its numbers."""
    delta = load_adapter(folder)

    def attach(model: Any) -> Any:
        if rows_of_adapter(model, delta) is not None:
            raise CannotStream("its adapter has other words than its base")
        if delta.config.get("trainable_token_indices"):
            raise CannotStream("its adapter retrains single words")
        return get_peft_model(model, peft_config(model, delta, 0.0))

    return attach


def _attach_to_parameters(folder: Path) -> Callable[[Any], Any]:
    """Return what attaches an adapter that is on parameters too, as those of experts are."""
    places = adapter_weights(folder).places
    outline = {
        _PREFIX + plain: torch.empty(places[stored][1].shape, device="meta")
        for plain, stored in plain_names(places).items()
    }
    return lambda model: adapted_on_parameters(model, read_adapter_config(folder), outline, 0.0)


def _of_wrappers(adapted: Any) -> dict[str, torch.Tensor]:
    """Return what modules that were trained whole hold now, by the names of files: peft wants all of them each time."""
    return {
        f"{name}.{stored}": module.state_dict()[loaded]
        for name, module in adapted.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
        for stored, loaded in module.adapter_state_dict_load_map(_NAME).items()
    }


def _stand_in(module: Any) -> nn.Parameter:
    """Return what a 4-bit weight would be unpacked to: DoRA asks for its norms, and there is nothing to unpack yet."""
    shape = (module.out_features, module.in_features)
    found: Any = nn.Parameter(torch.empty(shape, dtype=module.compute_dtype), requires_grad=False)
    found.compress_statistics, found.quant_type = module.weight.compress_statistics, module.weight.quant_type
    return found  # type: ignore[no-any-return]


def _graft(base: nn.Module, adapted: nn.Module, path: str, but: Collection[str]) -> None:
    """Let the adapted model share the base's modules, but for those that peft has put something around."""
    adapted._parameters, adapted._buffers = base._parameters, base._buffers
    for name, child in base.named_children():
        inner = f"{path}.{name}" if path else name
        if any(inner == other or inner.startswith(f"{other}.") for other in but):
            continue
        place: Any = adapted._modules[name]
        inside = place._modules
        if isinstance(place, BaseTunerLayer):
            _innermost(place)._modules["base_layer"] = child
        elif isinstance(place, AuxiliaryTrainingWrapper):
            inside["original_module"] = child
        elif _has_adapters(place) or any(other.startswith(f"{inner}.") for other in but):
            _graft(child, place, inner, but)
        else:
            adapted._modules[name] = child


def _innermost(adapter: Any) -> Any:
    """Return the adapter next to the layer: peft nests those on parameters of one module."""
    while isinstance(adapter.base_layer, BaseTunerLayer):
        adapter = adapter.base_layer
    return adapter


def _has_adapters(module: nn.Module) -> bool:
    return any(map(_is_adapter, module.modules()))


def _is_adapter(module: Any) -> bool:
    return isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)


def _is_within(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")
