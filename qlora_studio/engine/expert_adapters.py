"""Adapters in mixtures of experts, where peft 0.21 renames what they are for, and cannot wrap experts in 4 bit.

peft takes the names of dense layers that experts once had too (`down_proj`) for the stacked experts. Adapters are
attached and loaded here by the names that modules have. What is saved says it so that plain peft loads it on a 16-bit
base: such a dense layer is named by its weight there, as a parameter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper, _LoraParameterProxy
from peft.utils import transformers_weight_conversion as renaming
from torch.nn.utils import parametrize

from qlora_studio.engine.experts import PackedExperts, outlined, stacked_experts

_BY_PEFT = ("convert_peft_config_for_transformers", "convert_peft_adapter_state_dict_for_transformers")


def expert_targets(model: Any) -> list[str]:
    """Return peft's `target_parameters` for all experts of a mixture, each with the module around it."""
    return sorted({".".join(name.rsplit(".", 2)[-2:]) for name in stacked_experts(model)})


@contextmanager
def own_names() -> Iterator[None]:
    """Let peft take names of modules and of tensors as they are.

    WORKAROUND peft 0.21: as transformers renames tensors of files, it renames targets and the tensors of adapters;
    what is named as in memory comes out wrong (`shared_experts..down_proj`), or means the experts.
    """
    kept = {name: getattr(renaming, name) for name in _BY_PEFT}
    setattr(renaming, _BY_PEFT[0], lambda config, **_: None)
    setattr(renaming, _BY_PEFT[1], lambda adapter_state_dict, **_: adapter_state_dict)
    try:
        yield
    finally:
        for name, own in kept.items():
            setattr(renaming, name, own)


@contextmanager
def wrappable_experts(model: Any) -> Iterator[None]:
    """Let peft put adapters on experts in 4 bit: in the order that it has for plain ones, which its files keep."""
    with outlined(model):
        yield
    wrap_packed(model)


def wrap_packed(model: Any) -> None:
    """Let peft's adapters on parameters know which of these are in 4 bit by now."""
    for module in model.modules():
        if type(module) is ParamWrapper and parametrize.is_parametrized(module.get_base_layer(), module.parameter_name):
            module.__class__ = _PackedWrapper


class _PackedWrapper(ParamWrapper):
    """peft's adapter on a parameter, where that is in 4 bit.

    WORKAROUND peft 0.21: it registers its update on the parameter anew in each pass, and where another parametrization
    is there, never removes it. Here the parametrization that unpacks takes the update: the same sum, unpacked once.
    """

    def get_param(self) -> torch.Tensor:
        """Return what the parameter looks like."""
        unpack, packed = self._packed()
        return unpack.outline(packed)

    @contextmanager
    def _activate_lora(self, active_adapters: list[str]) -> Iterator[None]:
        names = [name for name in active_adapters if name in self.lora_A]
        if not names:
            yield
            return
        unpack, _ = self._packed()
        unpack.update = self._update(names[0])
        try:
            with parametrize.cached():
                yield
        finally:
            unpack.update = None

    def _update(self, name: str) -> Any:
        if self.num_experts == 1:
            return _LoraParameterProxy(self.get_delta_weight(name))  # type: ignore[no-untyped-call]  # peft's own
        left, right, scale = self.get_delta_factors(name)  # type: ignore[no-untyped-call]

        def added(weight: torch.Tensor) -> torch.Tensor:  # unpacked for this alone, so that it can be added to
            return weight.baddbmm_(left, right, alpha=scale)  # which autocast leaves in its own dtype, unlike a copy

        return added

    def _packed(self) -> tuple[PackedExperts, torch.Tensor]:
        base: Any = self.get_base_layer()
        unpacking = base.parametrizations[self.parameter_name]
        return unpacking[0], unpacking.original
