"""Rows run through a model layer by layer: a layer is loaded, every row passes it, and it goes.

A family's own forward decides what happens before, between and after its layers. Each batch of rows has a thread in
which that forward runs, held up at each layer; one thread at a time goes on. So masks, positions and whatever else
layers are given are the family's own, and no more than one layer has weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import bitsandbytes as bnb
import torch
import torch.nn.functional as functional
from torch import nn

from qlora_studio.engine.memory.text_part import text_model_name
from qlora_studio.engine.verification.lane import Lane
from qlora_studio.engine.verification.skeleton import CannotStream, Skeleton, pristine
from qlora_studio.engine.verification.streamed_adapter import StreamedAdapter

_LARGE_LIST = 0.1  # of the parameters that are no words': a list of modules that holds so many is one of layers
_MANY_ROWS = 4096  # of an embedding: only those that are asked for are loaded
Progress = Callable[[int, int], None]


class AtHead(Exception):
    """Carries the last states out of a model, where its head begins."""

    def __init__(self, states: torch.Tensor) -> None:
        self.states = states


class StreamedModel:
    """A skeleton, with an adapter or without, that rows can be run through."""

    def __init__(self, skeleton: Skeleton, adapter: StreamedAdapter | None = None) -> None:
        self._skeleton, self._adapter = skeleton, adapter
        model = skeleton.model
        self.layers = layer_paths(model)
        self._adapted = adapter.attached(model) if adapter else model
        self._lane: Lane | None = None
        self._text = text_model_name(model)
        self._head = next(
            (name for name, module in model.named_modules() if module is model.get_output_embeddings()), ""
        )

    @property
    def has_plain_head(self) -> bool:
        """Whether words come from what a linear layer makes of the last states, which then can be asked for in part."""
        return bool(self._head) and type(self._inner.get_submodule(self._head)) is nn.Linear

    def run(
        self,
        lanes: Sequence[Lane],
        progress: Progress = lambda done, total: None,
        keep: Callable[[int, list[torch.Tensor]], None] = lambda passed, states: None,
    ) -> None:
        """Run lanes to their end; each has then, as result, what goes into the head, or the logits of one not plain.

        `keep` is given, after a layer, how many there were and what they made of each lane, where a later process can
        go on from that.
        """
        self._keep = keep
        with torch.inference_mode(), self._rest_loaded(lanes), self._layers_held():
            try:
                self._run(lanes, progress)
            finally:
                for lane in lanes:
                    lane.abandon()

    @property
    def _inner(self) -> Any:
        return self._adapted.get_base_model() if self._adapter else self._adapted

    def _run(self, lanes: Sequence[Lane], progress: Progress) -> None:
        done, total = max((lane.passed for lane in lanes), default=0), len(self.layers)
        for lane in lanes:
            self._let(lane)
        while waiting := [lane for lane in lanes if lane.call]:
            path = waiting[0].call[0] if waiting[0].call else ""
            with self._loaded(path):
                for lane in waiting:
                    if lane.call and lane.call[0] == path:
                        self._let(lane)
            done += 1
            progress(done, max(done, total))
            if all(lane.call and lane.is_chain and isinstance(lane.states, torch.Tensor) for lane in lanes):
                self._keep(done, [lane.states for lane in lanes])

    def _let(self, lane: Lane) -> None:
        """Compute the layer that a lane waits for, where it does, and let it go on."""
        path, args, kwargs = lane.call or ("", (), {})
        if self._adapter:
            self._adapter.switch(self._adapted, on=lane.adapted)
        layer = self._inner.get_submodule(path) if path else None
        value = type(layer).forward(layer, *args, **kwargs) if layer is not None else None
        self._lane = lane
        lane.advance(self._forward, value)

    def _forward(self, lane: Lane) -> Any:
        try:
            return self._adapted(input_ids=lane.ids.to(self._skeleton.device), use_cache=False).logits
        except AtHead as found:
            return found.states

    @contextmanager
    def _rest_loaded(self, lanes: Sequence[Lane]) -> Iterator[None]:
        """Load what is no layer: all of it but the head, and of large embeddings no more than is looked up."""
        kept = [*self.layers, *([self._head] if self.has_plain_head else [])]
        inside = [self._text] if self._text else [""]
        with self._kept():
            kept += self._look_up_in_part(lanes) if self.has_plain_head else []
            self._skeleton.load(inside, but=kept)
            if self._text and self._head and not self.has_plain_head:
                self._skeleton.load([self._head])
            self._skeleton.require_loaded(inside, but=[*kept, self._head])
            if self._adapter:
                self._adapter.load(self._skeleton.model, self._adapted, "", but=self.layers)
            yield

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Put embeddings as they were when all is done."""
        model = self._skeleton.model
        before = [(module, dict(module._parameters)) for module in model.modules() if isinstance(module, nn.Embedding)]
        self._hooks: list[Any] = []
        try:
            yield
        finally:
            for module, parameters in before:
                module._parameters.update(parameters)
            for hook in self._hooks:
                hook.remove()

    def _look_up_in_part(self, lanes: Sequence[Lane]) -> list[str]:
        """Load the rows of large embeddings that will be looked up; return the paths of those embeddings."""
        used = torch.unique(torch.cat([lane.ids.reshape(-1) for lane in lanes]))
        found = []
        for path, module in self._skeleton.model.named_modules():
            is_large = isinstance(module, nn.Embedding) and module.weight.shape[0] >= _MANY_ROWS
            within = not self._text or path.startswith(f"{self._text}.")
            if is_large and within and (source := self._skeleton.source(f"{path}.weight")) is not None:
                places = torch.full((module.weight.shape[0],), -1)
                places[used] = torch.arange(len(used))
                rows = torch.cat([source[int(row) : int(row) + 1] for row in used])
                weight = rows.to(self._skeleton.device, module.weight.dtype)
                module.weight = nn.Parameter(weight, requires_grad=False)
                self._hooks.append(module.register_forward_pre_hook(partial(_looked_up, places)))
                found.append(path)
        return found

    @contextmanager
    def _layers_held(self) -> Iterator[None]:
        """Hold every lane up at each layer, and let it leave where the head begins."""
        for path in self.layers:
            self._hold(path)
        if self.has_plain_head:
            self._inner.get_submodule(self._head).forward = _at_head
        try:
            yield
        finally:
            for path in [*self.layers, *([self._head] if self.has_plain_head else [])]:
                self._inner.get_submodule(path).__dict__.pop("forward", None)

    def _hold(self, path: str) -> None:
        def held(*args: Any, **kwargs: Any) -> Any:
            if self._lane is None:
                raise CannotStream(f"{path} is asked by nobody")
            return self._lane.hold(path, args, kwargs)

        self._inner.get_submodule(path).forward = held

    @contextmanager
    def _loaded(self, path: str) -> Iterator[None]:
        """Give one layer its weights, and the adapter's, for as long as the block lasts."""
        models = [self._skeleton.model, *([self._inner] if self._adapter else [])]
        for model in models:
            model.get_submodule(path).__dict__.pop("forward", None)
        empty = [pristine(model.get_submodule(path)) for model in models]
        try:
            self._skeleton.load([path])
            self._skeleton.require_loaded([path])
            if self._adapter:
                self._adapter.load(self._skeleton.model, self._adapted, path)
            _unpack(self._inner.get_submodule(path))
            yield
        finally:
            for model, module in zip(models, empty, strict=True):
                _put(model, path, module)
            self._hold(path)


def layer_paths(model: Any) -> list[str]:
    """Return the names of a model's layers, in their order. Raises CannotStream where it has none in a list."""
    text = text_model_name(model)
    apart = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    words = {id(item) for module in [*apart, model.get_output_embeddings()] if module for item in module.parameters()}
    size = sum(item.numel() for item in model.parameters() if id(item) not in words)
    lists: list[str] = []
    for path, module in model.named_modules():
        within = not text or path.startswith(f"{text}.")
        inner = any(path.startswith(f"{found}.") for found in lists)
        if isinstance(module, nn.ModuleList) and within and not inner:
            held = sum(item.numel() for item in module.parameters())
            if held >= size * _LARGE_LIST:
                lists.append(path)
    if not lists:
        raise CannotStream("it has no list of layers")
    return [f"{path}.{number}" for path in lists for number in range(len(model.get_submodule(path)))]


def leave_at_head(_: nn.Module, args: tuple[Any, ...]) -> None:
    """Leave the model where its head would begin, as a hook of the head."""
    raise AtHead(args[0])


def _at_head(states: torch.Tensor) -> torch.Tensor:
    raise AtHead(states)


def _looked_up(places: torch.Tensor, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    ids = places.to(args[0].device)[args[0]]
    if bool((ids < 0).any()):
        raise CannotStream("it looks up other words than its rows have")
    return (ids, *args[1:])


def _unpack(layer: Any) -> None:
    """Let 4-bit layers on the CPU unpack their weight once for all rows, as bitsandbytes does there for each call."""
    found: list[Any] = [module for module in layer.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for module in found:
        state = module.weight.quant_state
        if tuple(state.shape) != (module.out_features, module.in_features):
            raise CannotStream("a weight has another size than its config says")
        if state.dtype == module.compute_dtype and module.weight.device.type == "cpu":
            module.forward = partial(_unpacked, module, bnb.functional.dequantize_4bit(module.weight.data, state))


def _unpacked(module: Any, weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    bias = module.bias.to(weight.dtype) if module.bias is not None else None
    return functional.linear(states.to(weight.dtype), weight, bias).to(states.dtype)


def _put(model: Any, path: str, module: nn.Module) -> None:
    """Put a module in another one's place, whose weights go at once: modules of peft refer to each other."""
    for item in model.get_submodule(path).modules():
        item._parameters, item._buffers = {}, {}
        item.__dict__.pop("forward", None)
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = module
