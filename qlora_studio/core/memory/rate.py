"""How fast a card will train, predicted: what a batch asks for, and what the card can do of it. Pure arithmetic.

A batch takes as long as its products of matrices at a share of the card's peak, and what it moves through the card's
memory at a share of the bandwidth: activations, and weights that are unpacked from 4 bits for each pass. It takes no
less than its kernels take to be launched. With a frozen base a forward pass is 2 FLOPs a token and parameter and a
backward pass 2 as well (Kaplan et al. 2020, section 2.1, without the gradient of the weights); a checkpointed layer
passes forward twice.

Both shares are the ones at which published runs on a 3090, a 4090 and A100s come out; the tests hold it to them. What
is moved was counted over a traced step, operation by operation. How long a launch takes is assumed, and the pause
between two batches, in which clipping and the optimizer's step fall too, is published by others.
"""

from dataclasses import replace

from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.layer import LayerMemory
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.layers import LayerShape
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.words import say

ERROR_SHARE = 0.25  # of a predicted rate
_PEAK_SHARE, _BANDWIDTH_SHARE = 0.85, 0.75
_MOVED_FORWARD, _MOVED_BACKWARD = 6, 9  # bytes for each byte that a layer saves
_MOVED_BY_DROPOUT = 5  # bytes for each number, forward and backward: read, written, and the mask
_UNPACKED = 2.5  # bytes a 4-bit weight: half read, two written
_ATTENTION_BACKWARD = 2.5  # of its forward pass: scores are computed once more
_EFFICIENT_SHARE = 0.5  # of flash's speed, in the kernel that takes a mask
_HEAD_PASSES = 3  # forward, once more in the backward pass, and the gradient of what goes in
_KERNELS, _ADAPTER_KERNELS = 60, 6  # of a layer and of each of its adapters, in a pass
_LAUNCH = 10e-6  # seconds
_BETWEEN = 0.2e-3  # seconds for each adapter: a 9B was seen to stand 54 ms a batch; the walk over modules is a tenth


def tokens_per_second(shape: ModelShape, setup: MemorySetup, card: GpuSpec | None) -> float | None:
    """Return the tokens that are trained a second, padding counted; None where that is not known."""
    seconds = batch_seconds(shape, setup, card)
    return setup.tokens / seconds if seconds else None


def batch_seconds(shape: ModelShape, setup: MemorySetup, card: GpuSpec | None, *, trains: bool = True) -> float | None:
    """Return the seconds that a batch takes forward and backward, or forward alone; None where that is not known."""
    if card is None or unknown_because(shape, setup, card):
        return None
    batch = _Batch(shape, setup, trains)
    working = batch.flops() / (card.flops * _PEAK_SHARE) + batch.moved() / (card.bandwidth * _BANDWIDTH_SHARE)
    return max(working, batch.launches() * _LAUNCH) + batch.pause()


def unknown_because(shape: ModelShape, setup: MemorySetup, card: GpuSpec | None) -> str:
    """Return why nothing is known of the speed, mostly that no published run tells of it; or nothing."""
    if card is None or not card.flops:
        return say("how fast this card computes is not known")
    if not shape.exact:
        return say("the model's family is not known")
    if shape.expert_parameters:
        return say("no published run tells how fast a mixture of experts is trained here")
    if shape.recurrence is not None:
        return say("no published run tells how fast layers that carry a state are")
    if setup.dora:
        return say("no published run tells how fast DoRA is")
    return "" if setup.compute_bytes == 2 else say("no published run tells how fast 32 bits are")


class _Batch:
    """What one batch asks of a card."""

    def __init__(self, shape: ModelShape, setup: MemorySetup, trains: bool) -> None:
        self._shape, self._setup, self._trains = shape, setup, trains
        again = setup.checkpointed_of(shape.layers) / max(1, shape.layers)
        self._forward = 1 + (again if trains else 0)  # passes
        self._backward = 1 if trains else 0

    def flops(self) -> float:
        """Floating-point operations, those of attention counted as many more as its kernel is slower."""
        layers = sum(layer.count * self._layer_flops(layer) for layer in self._shape.parts)
        head = 2 * self._shape.vocabulary * self._shape.hidden_size * self._setup.trained_share
        return self._setup.tokens * (layers + head * (_HEAD_PASSES if self._trains else 1))

    def moved(self) -> float:
        """Bytes that are read and written between products."""
        passes = self._forward + self._backward
        packed = 0 if self._setup.quantization == "none" else self._shape.quantizable_parameters
        plain = replace(self._setup, dropout=0.0)
        for_saved = _MOVED_FORWARD * self._forward + _MOVED_BACKWARD * self._backward
        each = sum(
            layer.count
            * (
                for_saved * LayerMemory(self._shape, plain, layer).per_token
                + (_MOVED_BY_DROPOUT * passes * self._inputs(layer) if self._trains and self._setup.dropout else 0)
            )
            for layer in self._shape.layer_shapes
        )
        return _UNPACKED * packed * passes + each * self._setup.tokens

    def launches(self) -> float:
        """Kernels."""
        kernels = sum(
            layer.count * (_KERNELS + _ADAPTER_KERNELS * self._adapters(layer)) for layer in self._shape.layer_shapes
        )
        return kernels * (self._forward + self._backward)

    def pause(self) -> float:
        """Seconds in which the card waits for the next batch."""
        return _BETWEEN * sum(layer.count * self._adapters(layer) for layer in self._shape.layer_shapes)

    def _layer_flops(self, layer: LayerShape) -> float:
        adapters = sum(
            self._setup.rank * (linear.inputs + linear.outputs)
            for linear in layer.linears
            if linear.name in self._setup.targets
        )
        both = self._forward + self._backward
        attention = self._attention_flops(layer) * (self._forward + _ATTENTION_BACKWARD * self._backward)
        return 2 * layer.quantizable * both + 2 * adapters * (self._forward + 2 * self._backward) + attention

    def _attention_flops(self, layer: LayerShape) -> float:
        """Return those of a token: scores and values. Flash leaves out the tokens behind it."""
        if not layer.attends or layer not in self._shape.layer_shapes:
            return 0.0
        sizes = layer.own or self._shape.sizes
        seen = self._setup.row_tokens / (2 if self._setup.attention == "flash" else 1)
        slower = _EFFICIENT_SHARE if self._setup.attention == "efficient" else 1.0
        return 4 * seen * sizes.heads * sizes.head_dim / slower

    def _adapters(self, layer: LayerShape) -> int:
        return sum(linear.name in self._setup.targets for linear in layer.linears)

    def _inputs(self, layer: LayerShape) -> int:
        return sum(linear.inputs for linear in layer.linears if linear.name in self._setup.targets)
