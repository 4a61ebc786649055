"""Adapters on a lone parameter of a module, as stacked experts are: which parameter it is, and how its update lies.

peft wraps such a module once for each parameter and names the wrappers, not the parameters: `experts.lora_A` is the
outermost, `experts.base_layer.lora_A` what it wraps. Which parameter that is, only the model's own module says.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from qlora_studio.engine.merge.adapter_change import AdapterTensor, StackedLowRank

_WRAPPED = ".base_layer"


@dataclass(frozen=True)
class Parameter:
    """A parameter that an adapter names. `inputs_first`: each of its matrices is (in, out)."""

    name: str
    shape: tuple[int, ...]
    inputs_first: bool


Halves = tuple[AdapterTensor, AdapterTensor]


def wrapped_parameters(
    models: Iterable[Any], targets: Iterable[str], updates: dict[str, Halves]
) -> dict[str, Parameter]:
    """Return the parameter that each update changes, by the update's name in an adapter. Modules' own have none.

    `updates` are A (experts · rank, in) and B (out, rank · experts).
    """
    found: dict[str, Parameter] = {}
    models, targets = list(models), set(targets)
    for owner in {name.replace(_WRAPPED, "") for name in updates}:
        wrappers = sorted((name for name in updates if name.replace(_WRAPPED, "") == owner), key=len, reverse=True)
        parameters = next((item for model in models if (item := _parameters(model, owner, targets))), [])
        if parameters:
            found |= _assigned(wrappers, parameters, updates)
    return found


def stacked_update(parameter: Parameter, halves: Halves, scale: float) -> StackedLowRank:
    """Return the update of a parameter of three dimensions."""
    return StackedLowRank(*halves, scale, parameter.shape[0], parameter.inputs_first)


def _parameters(model: Any, path: str, targets: set[str]) -> list[Parameter]:
    """Return what peft wraps of a module, from the inside out."""
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return []
    inputs_first = bool(getattr(module, "is_transposed", False))
    return [
        Parameter(f"{path}.{name}", shape, inputs_first)
        for name, shape in _own_parameters(module).items()
        if any(f".{path}.{name}".endswith(f".{target}") for target in targets)
    ]


def _own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's own parameters by name, in the module's order; of packed ones, as unpacked."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters(recurse=False)}
    packed: Any = module.parametrizations if is_parametrized(module) else {}
    return shapes | {name: tuple(getattr(module, name).shape) for name in packed}


def _assigned(wrappers: list[str], parameters: list[Parameter], updates: dict[str, Halves]) -> dict[str, Parameter]:
    """Return the parameters in peft's order; in another one where only that fits: of a base in 4 bit it is another."""
    for order in permutations(parameters, len(wrappers)):
        if all(_fits(parameter, *updates[name]) for name, parameter in zip(wrappers, order, strict=True)):
            return dict(zip(wrappers, order, strict=True))
    return {}


def _fits(parameter: Parameter, a: AdapterTensor, b: AdapterTensor) -> bool:
    *stack, out, inside = parameter.shape
    if parameter.inputs_first and stack:
        out, inside = inside, out
    return len(a.shape) == 2 and a.shape[1] == inside and b.shape[0] == out and a.shape[0] % (stack or [1])[0] == 0
