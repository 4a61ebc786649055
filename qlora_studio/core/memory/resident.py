"""What lies on the card between two steps: the base, the adapters, the optimizer's state. Sizes are bytes."""

from dataclasses import dataclass

from qlora_studio.core.config.optimizer import optimizer_named
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.layers import LayerShape
from qlora_studio.core.model.shape import ModelShape

_BLOCK = 512  # the allocator's unit
_QUANT_BLOCK, _NESTED_BLOCK = 64, 256
_GATHERED = 3  # layers at once


@dataclass(frozen=True, kw_only=True)
class Resident:
    """What lies on the card between two steps. `gradients` come and go with each optimizer step."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    managed: int
    workspace: int

    @property
    def total(self) -> int:
        """All but the gradients and the managed memory."""
        return self.weights + self.adapter + self.optimizer + self.workspace


def resident(shape: ModelShape, setup: MemorySetup) -> Resident:
    """Return what lies on the card between two steps."""
    if setup.method == "full":
        trained, trained_bytes, adapter = shape.parameters, setup.weight_bytes, 0
        state, managed = _optimizer_state({shape.parameters: 1}, trained_bytes, setup.optimizer)
    else:
        trained = shape.adapter_parameters(setup.rank, setup.targets, dora=setup.dora, experts=setup.experts)
        trained_bytes = setup.adapter_bytes
        adapter = trained * trained_bytes
        state, managed = _optimizer_state(_adapter_tensors(shape, setup), trained_bytes, setup.optimizer)
    return Resident(
        weights=weights_bytes(shape, setup),
        adapter=adapter,
        gradients=trained * trained_bytes,
        optimizer=state,
        managed=managed,
        workspace=2 * setup.workspace_bytes + 3 * 8 * setup.tokens,
    )


def weights_bytes(shape: ModelShape, setup: MemorySetup) -> int:
    """Return the size of the frozen base on the card: of layers that cards share out, a part and what is gathered."""
    kept_bytes = 4 if setup.upcast else setup.weight_bytes
    if setup.quantization == "none":
        return shape.parameters * setup.weight_bytes
    packed = sum(
        layer.count * _quantized_bytes(parameters, setup.double)
        for layer in shape.parts
        for parameters in (*(linear.parameters for linear in layer.linears), *_stacks(layer.experts))
    )
    elsewhere = sum(layer.count * _elsewhere(layer, setup.cards) for layer in shape.layer_shapes)
    return packed + shape.kept_parameters * kept_bytes - elsewhere + gathered_bytes(shape, setup)


def gathered_bytes(shape: ModelShape, setup: MemorySetup) -> int:
    """Return what is gathered of the weights at once: a layer that works, the next one, and the buffer it comes in."""
    if setup.cards == 1:
        return 0
    return _GATHERED * max((_packed_bytes(layer) for layer in shape.layer_shapes), default=0)


def travelling_bytes(shape: ModelShape, cards: int) -> int:
    """Return what a card receives of the weights each time that a batch goes through the layers, there or back."""
    return sum(layer.count * _packed_bytes(layer) for layer in shape.layer_shapes) * (cards - 1) // cards


def _packed_bytes(layer: LayerShape) -> int:
    return sum(-(-linear.parameters // 2) for linear in layer.linears)


def _elsewhere(layer: LayerShape, cards: int) -> int:
    """Return what of a layer's packed weights lies on other cards. The scales of their blocks are whole on each."""
    sizes = [-(-linear.parameters // 2) for linear in layer.linears]
    return sum(_round(size) - _round(-(-size // cards)) for size in sizes)


def _stacks(experts: int) -> tuple[int, ...]:
    """Return the sizes of the two stacks that a layer's experts are in: gate and up together, and down."""
    return (experts - experts // 3, experts // 3) if experts else ()


def _quantized_bytes(parameters: int, double: bool) -> int:
    blocks = -(-parameters // _QUANT_BLOCK)
    packed = _round(-(-parameters // 2)) + _BLOCK  # and the code's 16 values
    if not double:
        return packed + _round(4 * blocks)
    return packed + _round(blocks) + _round(4 * -(-blocks // _NESTED_BLOCK)) + _BLOCK  # and the offset


def _adapter_tensors(shape: ModelShape, setup: MemorySetup) -> dict[int, int]:
    """Return how many tensors there are of each number of elements."""
    tensors: dict[int, int] = {}
    for layer in shape.parts:
        for size in shape.expert_tensors(setup.rank) if setup.experts and layer.experts else ():
            tensors[size] = tensors.get(size, 0) + layer.count
        for linear in layer.linears:
            if linear.name in setup.targets:
                sizes = [setup.rank * linear.inputs, setup.rank * linear.outputs]
                for size in [*sizes, linear.outputs] if setup.dora else sizes:
                    tensors[size] = tensors.get(size, 0) + layer.count
    return tensors


def _optimizer_state(tensors: dict[int, int], element_bytes: int, optimizer: str) -> tuple[int, int]:
    """Return the bytes of the optimizer's state as torch counts it, and those in managed memory."""
    known = optimizer_named(optimizer)
    ordinary = managed = 0
    for elements, count in tensors.items():
        counted, paged = known.buffers(elements, element_bytes)
        ordinary += count * sum(map(_round, counted))
        managed += count * sum(map(_round, paged))
    return ordinary, managed


def _round(size: int) -> int:
    return max(_BLOCK, -(-size // _BLOCK) * _BLOCK)
