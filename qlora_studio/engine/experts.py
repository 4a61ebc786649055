"""Experts of a mixture as transformers has them in memory: stacked into 3-D parameters, in 4 bit or not."""

from typing import Any

from bitsandbytes.nn.parametrize import Bnb4bitParametrization, _register_parametrization_hooks
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization


def stacked_experts(model: Any) -> dict[str, tuple[nn.Module, str]]:
    """Return a model's stacked experts by the full name of the parameter: its module, and its name there."""
    return {
        f"{path}.{name}": (module, name)
        for path, module in model.named_modules()
        if path.rsplit(".", 1)[-1] == "experts" or type(module).__name__.endswith("Experts")
        for name in _stacked_names(module)
    }


def put_in_4_bit(module: nn.Module, name: str, packed: nn.Parameter, state: Any) -> None:
    """Make a parameter of a module the packed one, unpacked by its state when its layer asks for it.

    As `replace_parameter_4bit` of bitsandbytes does, which quantizes too; here that has been done.
    """
    packed.quant_state = state  # type: ignore[attr-defined]  # as the weight of a 4-bit linear layer has it
    setattr(module, name, packed)
    register_parametrization(module, name, Bnb4bitParametrization(state), unsafe=True)
    _register_parametrization_hooks(module, name)


def _stacked_names(module: nn.Module) -> list[str]:
    plain = [name for name, parameter in module.named_parameters(recurse=False) if parameter.ndim == 3]
    packed: Any = module.parametrizations if is_parametrized(module) else ()
    return plain + list(packed)
