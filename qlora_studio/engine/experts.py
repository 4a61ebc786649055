"""Experts of a mixture as transformers has them in memory: stacked into 3-D parameters, in 4 bit or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.nn.parametrize import Bnb4bitParametrization, _register_parametrization_hooks
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

_READ_AS_THEY_ARE = (
    ".prediction_coefs",
    ".correction_coefs",
    ".router.classifier",
    ".dt_proj",
)  # Gemma 3n, Longcat, Mamba


class PackedExperts(Bnb4bitParametrization):
    """Unpacks a parameter when its layer asks for it. `update` is what an adapter makes of it meanwhile."""

    update: Callable[[torch.Tensor], torch.Tensor] | None = None

    def forward(self, quantized_param: torch.Tensor) -> torch.Tensor:
        """Return the parameter in 16 bit, with the adapter's update where there is one."""
        weight: torch.Tensor = super().forward(quantized_param)
        return weight if self.update is None else self.update(weight)

    def outline(self, packed: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the parameter's shape, dtype and place that takes no memory."""
        one = torch.zeros(1, dtype=self.quant_state.dtype, device=packed.device)
        return one.expand(self.quant_state.shape)


def stacked_experts(model: Any) -> dict[str, tuple[nn.Module, str]]:
    """Return a model's stacked experts by the full name of the parameter: its module, and its name there."""
    return {
        f"{path}.{name}": (module, name)
        for path, module in model.named_modules()
        if path.rsplit(".", 1)[-1] == "experts" or type(module).__name__.endswith("Experts")
        for name in _stacked_names(module)
    }


def is_read_as_it_is(name: str) -> bool:
    """Whether a model's code takes the weight of a module past its forward, where 4 bits would be no numbers."""
    return name.endswith(_READ_AS_THEY_ARE)


def put_in_4_bit(module: nn.Module, name: str, packed: nn.Parameter, state: Any) -> None:
    """Make a parameter of a module the packed one, unpacked by its state when its layer asks for it.

    As `replace_parameter_4bit` of bitsandbytes does, which quantizes too; here that has been done.
    """
    packed.quant_state = state  # type: ignore[attr-defined]  # as the weight of a 4-bit linear layer has it
    setattr(module, name, packed)
    register_parametrization(module, name, PackedExperts(state), unsafe=True)
    _register_parametrization_hooks(module, name)


@contextmanager
def outlined(model: Any) -> Iterator[None]:
    """Let experts in 4 bit look like plain parameters of their shape, for code that looks at them without computing."""
    kept: list[tuple[nn.Module, str, nn.Parameter, PackedExperts]] = []
    for module, name in stacked_experts(model).values():
        if is_parametrized(module, name):
            unpacking: Any = module.parametrizations[name]  # type: ignore[index]  # a ModuleDict
            kept.append((module, name, unpacking.original, unpacking[0]))
            remove_parametrizations(module, name, leave_parametrized=False)
            setattr(module, name, nn.Parameter(unpacking[0].outline(unpacking.original), requires_grad=False))
    try:
        yield
    finally:
        for module, name, packed, unpack in kept:
            setattr(module, name, packed)
            register_parametrization(module, name, unpack, unsafe=True)


def _stacked_names(module: nn.Module) -> list[str]:
    plain = [name for name, parameter in module.named_parameters(recurse=False) if parameter.ndim == 3]
    packed: Any = module.parametrizations if is_parametrized(module) else ()
    return plain + list(packed)
