"""How transformers makes tensors in memory of those in files, index by index: experts stacked, projections joined.

Its loader works on numbers. A merge needs the way back, for a part of a tensor at a time: so each operation is followed
here on indices alone. What is not among these operations has no way back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import core_model_loading as loading

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Block:
    """A part of a tensor in memory that is a part of one in a file, `name`.

    For each dimension in memory: the indices there, the file's for the same numbers, and which dimension these are of;
    None where the file's whole tensor is one entry of a stack.
    """

    name: str
    axes: tuple[int | None, ...]
    places: tuple[torch.Tensor, ...]
    sources: tuple[torch.Tensor, ...]

    def within(self, start: int, stop: int) -> "Block":
        """Return what of it lies in the file's rows start..stop."""
        dim = self.axes.index(0)
        return self.chosen(dim, (self.sources[dim] >= start) & (self.sources[dim] < stop))

    def chosen(self, dim: int, mask: torch.Tensor) -> "Block":
        """Return it with some of its indices in one dimension."""
        return self.put(dim, self.places[dim][mask], self.sources[dim][mask])

    def put(self, dim: int, places: torch.Tensor, sources: torch.Tensor) -> "Block":
        """Return it with other indices in one dimension."""
        return replace(
            self,
            places=(*self.places[:dim], places, *self.places[dim + 1 :]),
            sources=(*self.sources[:dim], sources, *self.sources[dim + 1 :]),
        )


@dataclass(frozen=True)
class Made:
    """A tensor in memory, by where its numbers lie in files."""

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Conversion:
    """What transformers makes of some tensors of a base's files: by which of its rules, and under which name."""

    model: Any
    rule: loading.WeightConverter
    target: str
    sources: dict[str, list[str]]

    def made(self, shapes: Shapes) -> dict[str, Made] | None:
        """Return the tensors in memory, by name. None where the way back is not known."""
        tensors = {
            pattern: [whole(name, shapes[name]) for name in self.sources[pattern]]
            for pattern in self.rule.source_patterns
            if pattern in self.sources
        }
        for operation in self.rule.operations:
            follow = _OPERATIONS.get(type(operation))
            if follow is None:
                return None
            tensors = follow(self, operation, tensors)
        targets = self.rule.target_patterns
        if len(targets) == 1 and len(tensors) == 1:
            tensors = {targets[0]: next(iter(tensors.values()))}
        if any(len(items) != 1 for items in tensors.values()) or set(tensors) - set(targets):
            return None
        return {self.name_of(target): items[0] for target, items in tensors.items()}

    def name_of(self, target: str) -> str:
        """Return the full name in memory of one of the rule's targets."""
        return self.target.replace(self.rule.target_patterns[0], target, 1)


_Tensors = dict[str, list[Made]]


def whole(name: str, shape: tuple[int, ...]) -> Made:
    """Return a file's tensor that is the same in memory."""
    indices = tuple(torch.arange(length) for length in shape)
    return Made(shape, (Block(name, tuple(range(len(shape))), indices, indices),))


def _stack(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    return {pattern: [_stacked(items, operation.dim)] for pattern, items in tensors.items()}


def _stacked(items: list[Made], dim: int) -> Made:
    def inserted(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values[:dim], value, *values[dim:])

    blocks = [
        Block(
            block.name,
            inserted(block.axes, None),
            inserted(block.places, torch.tensor([number])),
            inserted(block.sources, torch.tensor([0])),
        )
        for number, item in enumerate(items)
        for block in item.blocks
    ]
    return Made(inserted(items[0].shape, len(items)), tuple(blocks))


def _join(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    dim, start, blocks = operation.dim, 0, []
    items = [item for group in tensors.values() for item in group]
    for item in items:
        blocks += [block.put(dim, block.places[dim] + start, block.sources[dim]) for block in item.blocks]
        start += item.shape[dim]
    shape = (*items[0].shape[:dim], start, *items[0].shape[dim + 1 :])
    return {conversion.rule.target_patterns[0]: [Made(shape, tuple(blocks))]}


def _chunk(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    targets, (item,) = conversion.rule.target_patterns, next(iter(tensors.values()))
    length = -(-item.shape[operation.dim] // len(targets))  # as torch's
    return _divided(item, operation.dim, dict.fromkeys(targets, length))


def _split(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    (item,) = next(iter(tensors.values()))
    lengths = {
        target: conversion.model.get_parameter(conversion.name_of(target)).shape[operation.dim]
        for target in conversion.rule.target_patterns
    }
    return _divided(item, operation.dim, lengths)


def _divided(item: Made, dim: int, lengths: dict[str, int]) -> _Tensors:
    found: _Tensors = {}
    start = 0
    for target, length in lengths.items():
        stop = min(start + length, item.shape[dim])
        parts = [block.chosen(dim, (block.places[dim] >= start) & (block.places[dim] < stop)) for block in item.blocks]
        moved = tuple(part.put(dim, part.places[dim] - start, part.sources[dim]) for part in parts)
        shape = (*item.shape[:dim], stop - start, *item.shape[dim + 1 :])
        found[target] = [Made(shape, tuple(block for block in moved if len(block.places[dim])))]
        start = stop
    return found


def _turn(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    def turned(item: Made) -> Made:
        if operation.check_dims and item.shape == tuple(conversion.model.get_parameter(conversion.target).shape):
            return item
        order = list(range(len(item.shape)))
        order[operation.dim0], order[operation.dim1] = order[operation.dim1], order[operation.dim0]

        def ordered(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[index] for index in order)

        blocks = [
            Block(block.name, ordered(block.axes), ordered(block.places), ordered(block.sources))
            for block in item.blocks
        ]
        return Made(ordered(item.shape), tuple(blocks))

    return {pattern: [turned(item) for item in items] for pattern, items in tensors.items()}


def _interleave(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    def order(length: int) -> torch.Tensor:
        pairs = (2, -1) if operation.inverse else (-1, 2)
        return torch.arange(length).reshape(pairs).T.reshape(-1)

    return {
        pattern: [_ordered(item, operation.dim, order(item.shape[operation.dim])) for item in items]
        for pattern, items in tensors.items()
    }


def _turn_positions(conversion: Conversion, operation: Any, tensors: _Tensors) -> _Tensors:
    config = conversion.model.config
    if operation.subconfig_key is not None:
        config = getattr(config, operation.subconfig_key, config)
    heads, names = getattr(config, "num_attention_heads", 1), operation.permute_layer_names

    def order(rows: int) -> torch.Tensor:
        half = rows // heads // 2
        pairs = (2, half) if operation.inverse else (half, 2)
        return torch.arange(rows).reshape(heads, *pairs).transpose(1, 2).reshape(-1)

    return {
        pattern: [
            item if names is not None and not any(name in pattern for name in names) else _ordered(item, 0, order)
            for item in items
        ]
        for pattern, items in tensors.items()
    }


def _ordered(item: Made, dim: int, order: torch.Tensor | Callable[[int], torch.Tensor]) -> Made:
    """Return a tensor whose entry number i is what was number order[i]."""
    order = order(item.shape[dim]) if callable(order) else order
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    blocks = [block.put(dim, place[block.places[dim]], block.sources[dim]) for block in item.blocks]
    return Made(item.shape, tuple(blocks))


_OPERATIONS: dict[type, Callable[[Conversion, Any, _Tensors], _Tensors]] = {
    loading.MergeModulelist: _stack,
    loading.Concatenate: _join,
    loading.Chunk: _chunk,
    loading.Split: _split,
    loading.Transpose: _turn,
    loading.Interleave: _interleave,
    loading.PermuteForRope: _turn_positions,
}
