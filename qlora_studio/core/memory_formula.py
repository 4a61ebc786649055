"""The closed formula of a training step's memory: what is resident, what each phase adds. Sizes are bytes.

One decoder layer saves a fixed number of bytes a token for its backward pass; with checkpointing only one layer at a
time does, and every layer keeps its input. The engine's tracer runs the real code, and tests hold this to it.
"""

from dataclasses import dataclass

from qlora_studio.core.layer_shape import LayerShape, Linear
from qlora_studio.core.memory_setup import MemorySetup
from qlora_studio.core.model_shape import ModelShape

_BLOCK = 512  # the allocator's unit
_QUANT_BLOCK, _NESTED_BLOCK = 64, 256
_HEAD_TILE_TOKENS, _HEAD_TILE_WORDS = 4096, 32_768  # trl.kernels.chunked_logprob
_PAGED_FROM = 100_000  # elements: smaller tensors are never paged
_OPTIMIZER_BLOCK = 256
_SMALLEST_8BIT = 4096  # elements: smaller tensors keep 32-bit state


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


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most that is allocated at one moment of a phase, and of what kinds that is beside the resident."""

    phase: str
    gradients: int
    activations: int
    logits: int

    def allocated(self, resident: Resident) -> int:
        """Bytes allocated at that moment."""
        return resident.total + self.gradients + self.activations + self.logits


def resident(shape: ModelShape, setup: MemorySetup) -> Resident:
    """Return what lies on the card between two steps."""
    if setup.method == "full":
        trained, trained_bytes, adapter = shape.parameters, setup.weight_bytes, 0
        state, managed = _optimizer_state({shape.parameters: 1}, trained_bytes, setup.optimizer)
    else:
        trained = shape.adapter_parameters(setup.rank, setup.targets, dora=setup.dora)
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
    """Return the size of the frozen base on the card."""
    kept_bytes = 4 if setup.upcast else setup.weight_bytes
    if setup.quantization == "none":
        return shape.parameters * setup.weight_bytes
    linears = sum(
        layer.count * _quantized_bytes(linear, setup.double) for layer in shape.layer_shapes for linear in layer.linears
    )
    return linears + shape.kept_parameters * kept_bytes


def peaks(shape: ModelShape, setup: MemorySetup) -> tuple[Peak, ...]:
    """Return the peak of each phase of a step."""
    held = resident(shape, setup)
    saved = _Saved(shape, setup)
    carried = held.gradients if setup.accumulation > 1 else 0
    kept = saved.kept_by_layers()
    logits = _logits_bytes(shape, setup)
    last_layer = _backward_bytes(shape, setup, saved)
    first_layer_gradients = held.gradients * (shape.layers - 1) // max(1, shape.layers)
    early = saved.inputs_of_layer + last_layer
    late = kept + last_layer
    backward = max(
        Peak(phase="backward", gradients=carried, activations=late, logits=0),
        Peak(phase="backward", gradients=max(carried, first_layer_gradients), activations=early, logits=0),
        key=lambda peak: peak.allocated(held),
    )
    at_head = saved.before_head()
    return (
        Peak(phase="forward", gradients=carried, activations=at_head, logits=logits),
        backward,
        Peak(phase="optimizer", gradients=held.gradients, activations=0, logits=0),
    )


def layer_bytes_per_token(shape: ModelShape, setup: MemorySetup) -> int:
    """Return what one decoder layer saves for its backward pass, a token."""
    return _Saved(shape, setup).per_token


def state_sizes(elements: int, element_bytes: int, optimizer: str) -> tuple[list[int], list[int]]:
    """Return the buffers that AdamW keeps for one tensor: ordinary ones, and those in managed memory."""
    if optimizer.startswith("adamw_torch"):
        step = [4] if "fused" in optimizer else []  # a counter on the card
        return [*step, element_bytes * elements, element_bytes * elements], []
    moments, scales = 2 * [4 * elements], []
    if "8bit" in optimizer and elements >= _SMALLEST_8BIT:
        moments, scales = 2 * [elements], 2 * [4 * -(-elements // _OPTIMIZER_BLOCK)]
    if optimizer.startswith("paged") and elements >= _PAGED_FROM:
        return scales, moments
    return [*moments, *scales], []


class _Saved:
    """What autograd saves, in one layer and between layers."""

    def __init__(self, shape: ModelShape, setup: MemorySetup) -> None:
        self._shape, self._setup = shape, setup
        self.layer = _widest(shape)
        self.per_token = self._norms() + self._attention() + self._mlp() + self._adapters()
        self.inputs_of_layer = setup.compute_bytes * shape.hidden_size * setup.tokens
        self.rotary = 2 * setup.compute_bytes * shape.head_dim * setup.row_tokens
        self.mask = setup.batch * setup.row_tokens**2 if setup.masked else 0

    def kept_by_layers(self) -> int:
        """Bytes held for all layers while the last one runs backward, without that layer's own."""
        layers, tokens = self._shape.layers, self._setup.tokens
        shared = self.rotary + self.mask
        if self._setup.checkpointing:
            return shared + layers * self.inputs_of_layer
        return shared + (layers - 1) * self.per_token * tokens

    def before_head(self) -> int:
        """Bytes held when the head begins: every layer's, and the final norm's."""
        hidden, tokens = self._shape.hidden_size, self._setup.tokens
        size = self._setup.compute_bytes
        norm = (4 * hidden + 4 + size * hidden) * tokens
        shared = self.rotary + self.mask + norm
        if self._setup.checkpointing:
            return shared + (self._shape.layers + 1) * self.inputs_of_layer
        return shared + self._shape.layers * self.per_token * tokens

    def _norms(self) -> int:
        hidden, size = self._shape.hidden_size, self._setup.compute_bytes
        one = {"rms": 4 * hidden + 4, "layer": size * hidden + 8, "none": size * hidden + 8}[self._shape.norm]
        shape = self._shape
        query = 0
        if shape.query_norm:
            lanes = (shape.heads + shape.kv_heads) if shape.query_norm == "head" else 2
            query = 4 * (shape.heads + shape.kv_heads) * shape.head_dim + 4 * lanes
        return shape.norms * one + query

    def _attention(self) -> int:
        shape, size = self._shape, self._setup.compute_bytes
        query, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        expanded = keys if self._setup.attention == "flash" else query
        if self._setup.attention == "eager":
            scores = shape.heads * self._setup.row_tokens * (4 + size)
            return size * (query + 2 * expanded) + size * query + scores
        return size * (2 * query + 2 * expanded) + 4 * shape.heads

    def _mlp(self) -> int:
        shape, size = self._shape, self._setup.compute_bytes
        width = shape.experts_per_token * shape.expert_width if self.layer.experts else shape.intermediate_size
        routed = size * shape.hidden_size * shape.experts_per_token if self.layer.experts else 0
        return routed + size * width * (3 if shape.gated else 1)

    def _adapters(self) -> int:
        setup = self._setup
        targeted = [linear for linear in self.layer.linears if linear.name in setup.targets]
        if setup.method == "full":
            return sum({linear.role: setup.compute_bytes * linear.inputs for linear in self.layer.linears}.values())
        down = setup.adapter_bytes * setup.rank * len(targeted)
        if setup.dropout > 0:
            return down + sum((setup.adapter_bytes + 1) * linear.inputs for linear in targeted)
        inputs = {linear.role: setup.compute_bytes * linear.inputs for linear in targeted}
        if setup.attention != "eager":
            inputs.pop("attention_out", None)  # shares the attention's output
        return down + sum(inputs.values())


def _backward_bytes(shape: ModelShape, setup: MemorySetup, saved: _Saved) -> int:
    tokens, size = setup.tokens, setup.compute_bytes
    width = max((linear.inputs for linear in saved.layer.linears if linear.role == "mlp_out"), default=0)
    last = next((linear for linear in saved.layer.linears if linear.role == "mlp_out"), None)
    targeted = last is not None and last.name in setup.targets
    freed = (size + (1 if setup.dropout > 0 else 0)) * width * tokens if targeted else 0
    unpacked = size * width * shape.hidden_size if setup.quantization != "none" else 0
    through_last = (2 if targeted else 1) * size * width * tokens + unpacked
    through_gate = (3 if shape.gated else 2) * size * width * tokens
    return saved.per_token * tokens - freed + size * shape.hidden_size * tokens + max(through_last, through_gate)


def _logits_bytes(shape: ModelShape, setup: MemorySetup) -> int:
    hidden, size = shape.hidden_size, setup.compute_bytes
    if setup.loss == "plain":
        return (size + 4 + 4 + 4) * shape.vocabulary * setup.tokens
    trained = int(setup.tokens * setup.trained_share)
    tile = size * min(trained, _HEAD_TILE_TOKENS) * min(_HEAD_TILE_WORDS, shape.vocabulary)
    return trained * (size * hidden + 28 + 4 * hidden) + max(tile, size * hidden * trained)


def _widest(shape: ModelShape) -> LayerShape:
    return max(shape.layer_shapes, key=lambda layer: layer.quantizable + layer.experts)


def _quantized_bytes(linear: Linear, double: bool) -> int:
    blocks = -(-linear.parameters // _QUANT_BLOCK)
    packed = _round(-(-linear.parameters // 2)) + _BLOCK  # and the code's 16 values
    if not double:
        return packed + _round(4 * blocks)
    return packed + _round(blocks) + _round(4 * -(-blocks // _NESTED_BLOCK)) + _BLOCK  # and the offset


def _adapter_tensors(shape: ModelShape, setup: MemorySetup) -> dict[int, int]:
    """Return how many tensors there are of each number of elements."""
    tensors: dict[int, int] = {}
    for layer in shape.layer_shapes:
        for linear in layer.linears:
            if linear.name in setup.targets:
                sizes = [setup.rank * linear.inputs, setup.rank * linear.outputs]
                for size in [*sizes, linear.outputs] if setup.dora else sizes:
                    tensors[size] = tensors.get(size, 0) + layer.count
    return tensors


def _optimizer_state(tensors: dict[int, int], element_bytes: int, optimizer: str) -> tuple[int, int]:
    """Return the bytes of the optimizer's state as torch counts it, and those in managed memory."""
    ordinary = managed = 0
    for elements, count in tensors.items():
        counted, paged = state_sizes(elements, element_bytes, optimizer)
        ordinary += count * sum(map(_round, counted))
        managed += count * sum(map(_round, paged))
    return ordinary, managed


def _round(size: int) -> int:
    return max(_BLOCK, -(-size // _BLOCK) * _BLOCK)
