"""A frozen base in 4 bits that the ranks share out: each keeps rows of every weight, and has a layer whole as it works.

torch's FSDP2 gathers a layer and lets go of it. It is given the packed weights of the decoder layers and nothing else:
adapters, norms, embeddings and head are whole on every rank, so that what is trained, clipped, saved and added up is as
it is without shards. Each weight is cut as it is loaded: no rank has more of the base than its part and one weight.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.ranks.share import Share, decoder_layers

_VIEW = r"FSDP2-wrapped module \({}\) returned a view"


def gather_by_layers(model: Any, device: str, share: Share) -> None:
    """Have each decoder layer, its weights cut already, gather them while it works.

    Raises StudioError where that cannot be.
    """
    layers = list(decoder_layers(model).values())
    _require_layers(model, layers)
    mesh = init_device_mesh(torch.device(device).type, (share.count,))
    for layer in layers:
        _gather(layer, mesh)
        _refuse_views(layer)
    stack = _stack_of(model, layers)
    warnings.filterwarnings("ignore", _VIEW.format(type(stack).__name__))  # it has nothing of its own to gather
    fully_shard(stack, mesh=mesh, ignored_params=set(_plain(stack)))  # the root: its layers share streams and prefetch


def _require_layers(model: Any, layers: list[Any]) -> None:
    """Raise StudioError where a model's weights cannot be shared out by layers."""
    name = type(model.get_base_model()).__name__
    if stacked_experts(model):
        raise _refused(say("{name} is a mixture of experts: its base cannot be sharded.", name=name))
    if not layers:
        raise _refused(say("The layers of {name} cannot be told apart: its base cannot be sharded.", name=name))


def _gather(layer: nn.Module, mesh: Any) -> None:
    """Give FSDP2 a layer's packed weights: their size first, then the own parts, as a model made on meta is given."""
    packed = [module for module in layer.modules() if isinstance(module, Linear4bit)]
    own: list[Any] = [module.weight for module in packed]
    for module, weight in zip(packed, own, strict=True):
        size = -(-weight.quant_state.shape.numel() // 2)
        module.quant_state = weight.quant_state  # from here the layer takes it: what is gathered has none
        module.weight = nn.Parameter(torch.empty(size, 1, dtype=torch.uint8, device="meta"), requires_grad=False)
    whole = [module.weight for module in packed]
    others = {parameter for parameter in layer.parameters() if not any(parameter is mine for mine in whole)}
    fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=others)
    for module, weight in zip(packed, own, strict=True):
        module.weight = _part(module.weight, weight, mesh)


def _refuse_views(layer: nn.Module) -> None:
    """Have it fail where a layer returns a view: written into, that would be trained on with weights let go of."""
    warnings.filterwarnings("error", _VIEW.format(type(layer).__name__))


def _part(whole: torch.Tensor, own: Any, mesh: Any) -> nn.Parameter:
    local = own.data.as_subclass(torch.Tensor)
    cut = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=(1, 1))
    part = nn.Parameter(cut, requires_grad=False)
    part.quant_state = own.quant_state  # type: ignore[attr-defined]  # as a whole packed weight has it
    return part


def _stack_of(model: Any, layers: list[Any]) -> Any:
    """Return the smallest module around all layers: what is further out peft calls by its forward, past all hooks."""
    path = next(name for name, module in model.named_modules() if module is layers[0])
    while path:
        path = path.rpartition(".")[0]
        module = model.get_submodule(path)
        held = {id(inner) for inner in module.modules()}
        if not isinstance(module, nn.ModuleList | nn.ModuleDict) and all(id(layer) in held for layer in layers):
            return module
    return model


def _plain(module: nn.Module) -> Iterator[nn.Parameter]:
    for parameter in module.parameters():
        if not isinstance(parameter, DTensor):
            yield parameter


def _refused(message: str) -> StudioError:
    return StudioError(
        message,
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Train it on cards that hold it whole (--set hardware.sharding=off), or choose another model."),
    )
