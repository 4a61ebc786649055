"""What a decoder layer keeps for its backward pass, and needs while that runs. Sizes are bytes.

Counted from what autograd saves in transformers' and peft's layers; a test compares it with autograd itself, on a CPU.
`residual` below is the size of a number in the stream between layers: fp32 where norms or adapters return fp32.
"""

from qlora_studio.core.memory.recurrence import backward_bytes, saved_bytes
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.layers import LayerShape, Linear
from qlora_studio.core.model.shape import ModelShape

# Eager attention, bytes a score: what is saved, and what the backward pass of softmax holds at its worst
_SCORE_SAVED, _SCORE_BACKWARD = 6, 16
_SINK_SCORE_SAVED, _SINK_SCORE_BACKWARD = 4, 8  # with attention sinks softmax runs in 16 bit
_FUSED_TOKENS = 512  # up to so many bitsandbytes multiplies with a weight that stays packed
_SCORE_FORWARD = 10  # in 16 bit, and in fp32 before and after softmax
_SOFTCAP_SCORE = 2
_DORA_COPIES = 7  # of the weight: unpacked, merged, multiplied out from the adapters, and their gradients
_PYTHON_GELU = 4  # copies that gelu_new keeps, which is written in Python
_EXPERT_COPIES = 6  # bytes for each number of a routed token's input while experts run backward


class LayerMemory:
    """A decoder layer of a model in a setup. Attributes and results are bytes, `per_token` for one token."""

    def __init__(self, shape: ModelShape, setup: MemorySetup, layer: LayerShape) -> None:
        self._shape, self._setup = shape, setup
        self._layer = layer
        self._sizes = layer.own or shape.sizes
        self._size = setup.compute_bytes
        raised = setup.upcast or setup.dora or setup.weight_bytes == 4 or shape.norm == "layer"
        self.residual = 4 if raised else self._size
        self.per_token = self._norms() + self._attention() + self._mlp() + self._adapters()
        self.input = self.residual * shape.hidden_size * setup.tokens

    def saved(self) -> int:
        """What the layer saves, without its input where checkpointing holds that anyway."""
        held_anyway = self.input if self._setup.checkpointing and self.residual == 4 else 0
        return self.per_token * self._setup.tokens + self._bias() + self._unpacked_experts() - held_anyway

    def backward(self) -> int:
        """The most that the layer's backward pass holds: in its MLP, eager attention's scores, or its recurrence."""
        is_eager = self._setup.attention == "eager" and self._layer.attends
        return max(self._mlp_backward(), self._eager_backward() if is_eager else 0, self._recurrence_backward())

    def forward(self) -> int:
        """The most that the layer holds where nothing is kept for a backward pass: its MLP, or eager attention."""
        tokens, size = self._setup.tokens, self.residual
        last = next((linear for linear in self._layer.linears if linear.role == "mlp_out"), None)
        width = last.inputs if last else 0
        beside = 1 if self._shape.gated else 0  # the gate waits for what it is multiplied with
        unpacks = self._setup.quantization != "none" and tokens > _FUSED_TOKENS
        unpacked = self._size * width * self._shape.hidden_size if unpacks else 0
        # Three of the width: the base's result, the adapters' and their sum; or two factors and their product.
        mlp = max((beside + 3) * size * width * tokens, (beside + 1) * size * width * tokens + unpacked)
        is_eager = self._setup.attention == "eager" and self._layer.attends
        scores = self._sizes.heads * self._setup.row_tokens * tokens * (_SCORE_FORWARD if is_eager else 0)
        experts = self._unpacked_experts() + self._expert_scratch()
        return 2 * self.input + max(mlp, scores) + experts

    def _recurrence_backward(self) -> int:
        if self._layer.recurrence is None:
            return 0
        scratch = backward_bytes(self._layer.recurrence)
        return (self._norms() + self._adapters() + scratch) * self._setup.tokens + 2 * self.input

    def _mlp_backward(self) -> int:
        tokens, residual = self._setup.tokens, self.residual
        last = next((linear for linear in self._layer.linears if linear.role == "mlp_out"), None)
        width = last.inputs if last else 0
        targeted = last is not None and last.name in self._setup.targets
        freed = (self._size + (1 if self._setup.dropout > 0 else 0)) * width * tokens if targeted else 0
        unpacked = self._size * width * self._shape.hidden_size if self._setup.quantization != "none" else 0
        through_last = (2 if targeted else 1) * residual * width * tokens + unpacked
        through_gate = (3 if self._shape.gated else 2) * residual * width * tokens
        scratch = max(through_last, through_gate) + self._dora_scratch() + self._expert_scratch()
        return self.saved() - freed + self.input + scratch

    def _eager_backward(self) -> int:
        shape, tokens = self._sizes, self._setup.tokens
        query, hidden = shape.heads * shape.head_dim, shape.hidden
        each = _SINK_SCORE_BACKWARD if self._shape.sinks else _SCORE_BACKWARD
        scores = (each + self._softcap()) * shape.heads * self._setup.row_tokens
        return tokens * (scores + 4 * hidden + self._size * (5 * query + 2 * hidden))

    def _norms(self) -> int:
        shape = self._shape
        own = self.residual * shape.hidden_size + 8
        float_copy = 4 * shape.hidden_size + 4
        one = {"rms": float_copy, "plain": 2 * float_copy, "layer": own, "none": own}
        if not shape.query_norm or not self._layer.attends:
            return shape.norms * one[shape.norm]
        heads = self._sizes.heads + self._sizes.kv_heads
        lanes = heads if shape.query_norm == "head" else 2
        query = 4 * heads * self._sizes.head_dim + 4 * lanes
        return shape.norms * one[shape.norm] + query

    def _attention(self) -> int:
        recurrence = self._layer.recurrence
        kept = saved_bytes(recurrence) if recurrence else 0
        return kept + (self._scores() if self._layer.attends else 0)

    def _scores(self) -> int:
        shape, size = self._sizes, self._size
        query, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        expanded = keys if self._setup.attention == "flash" else query
        fused = size * (query + keys) if any(linear.name == "qkv_proj" for linear in self._layer.linears) else 0
        if self._setup.attention == "eager":
            return size * (2 * query + 2 * expanded) + shape.heads * self._setup.row_tokens * self._score_saved()
        # Without flash rows are attended to one by one, and what they come to is put together in a copy.
        together = size * query if self._setup.attention == "efficient" and not self._setup.masked else 0
        return size * (2 * query + 2 * expanded) + 4 * shape.heads + fused + together

    def _mlp(self) -> int:
        shape = self._shape
        experts = shape.experts_per_token if self._layer.experts else 0
        width = experts * shape.expert_width if experts else self._sizes.width
        routed = self._size * shape.hidden_size * experts
        copies = _PYTHON_GELU if shape.activation == "gelu_new" else 1
        return routed + self.residual * width * (copies + (2 if shape.gated else 0))

    def _adapters(self) -> int:
        setup, size = self._setup, self._size
        targeted = [linear for linear in self._layer.linears if linear.name in setup.targets]
        if setup.method == "full":
            return sum({linear.role: size * linear.inputs for linear in self._layer.linears}.values())
        low = size * setup.rank * len(targeted) + self._inputs_of_experts()
        if setup.dora:
            low += sum(2 * size * linear.outputs for linear in targeted)
        if setup.dropout > 0:
            return low + sum((size + 1) * linear.inputs for linear in targeted)
        return low + self._inputs_of(targeted)

    def _inputs_of_experts(self) -> int:
        """Bytes a token of what adapted experts are multiplied with: else their weights need no gradient."""
        if not (self._setup.experts and self._layer.experts):
            return 0
        return self._size * self._shape.experts_per_token * (self._shape.hidden_size + self._shape.expert_width)

    def _inputs_of(self, targeted: list[Linear]) -> int:
        """Bytes a token of the adapters' inputs. They share one, unless each casts its own from fp32."""
        size = self._size
        apart = self.residual != size
        holds = self._setup.attention != "eager" and self._layer.attends  # what it multiplies, without the adapter
        own = [linear for linear in targeted if linear.role != "attention_out" or not holds]
        if apart:
            return sum(size * linear.inputs for linear in own)
        shared = {linear.name if linear.role == "other" else linear.role: size * linear.inputs for linear in own}
        return sum(shared.values())

    def _bias(self) -> int:
        """The padding mask as each layer adds it to its scores."""
        if not self._setup.masked or self._setup.attention == "eager":
            return 0
        return self._size * self._setup.batch * self._setup.row_tokens**2

    def _score_saved(self) -> int:
        return (_SINK_SCORE_SAVED if self._shape.sinks else _SCORE_SAVED) + self._softcap()

    def _softcap(self) -> int:
        return _SOFTCAP_SCORE if self._shape.softcap else 0

    def _unpacked_experts(self) -> int:
        """A layer's experts in 16 bit: unpacked in its forward pass, and held until its backward pass is over.

        Those that are adapted are such a copy too, where the base is in 16 bit.
        """
        is_copied = self._setup.quantization != "none" or self._setup.experts
        return self._size * self._layer.experts if is_copied else 0

    def _expert_scratch(self) -> int:
        if not self._layer.experts:
            return 0
        copies = _EXPERT_COPIES * self._shape.hidden_size * self._shape.experts_per_token * self._setup.tokens
        # Of adapted experts, the gradient of their sum with the update is there before it becomes the adapters' own.
        gradient = self._size * (self._layer.experts - self._layer.experts // 3) if self._setup.experts else 0
        return max(copies, gradient)

    def _dora_scratch(self) -> int:
        """What the norm of a merged weight takes: the identity it multiplies out, and copies of the weight."""
        if not self._setup.dora:
            return 0
        targeted = [linear for linear in self._layer.linears if linear.name in self._setup.targets]
        return max(
            (self._size * (linear.inputs**2 + _DORA_COPIES * linear.parameters) for linear in targeted), default=0
        )


def widest(shape: ModelShape) -> LayerShape:
    """Return the largest kind of layer."""
    return max(shape.layer_shapes, key=lambda layer: layer.quantizable + layer.experts)
