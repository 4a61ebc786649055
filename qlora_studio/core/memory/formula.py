"""The closed formula of a training step's memory: what each phase adds to what is resident. Sizes are bytes.

One decoder layer saves a fixed number of bytes a token for its backward pass; with checkpointing only one layer at a
time does, and every layer keeps its input. Where the first layers alone are checkpointed, those behind have given back
what they saved when the first are computed again. The engine's tracer runs the real code, and tests hold this to it.
"""

from dataclasses import dataclass, replace

from qlora_studio.core.memory.layer import LayerMemory
from qlora_studio.core.memory.resident import Resident, resident
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import ModelShape

HEAD_TILE_TOKENS, HEAD_TILE_WORDS = 4096, 32_768  # trl.kernels.chunked_logprob
_PER_LAYER_INPUT = 8  # bytes for each number that Gemma 4's embeddings give to the layers: itself, norm, projection
_HEAD_STATISTICS = 28  # bytes a scored token
_PLAIN_LOGITS_FORWARD, _PLAIN_LOGITS_BACKWARD = 10, 12  # bytes a logit: 16-bit, fp32, log-softmax, gradient


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most that is allocated at one moment of a phase, and of what kinds that is beside the resident."""

    phase: str
    gradients: int = 0
    activations: int = 0
    logits: int = 0

    def allocated(self, held: Resident) -> int:
        """Bytes allocated at that moment."""
        return held.total + self.gradients + self.activations + self.logits


def peaks(shape: ModelShape, setup: MemorySetup) -> tuple[Peak, ...]:
    """Return the peak of each phase of a step."""
    held = resident(shape, setup)
    step = _Step(shape, setup, held)
    moments = (step.head_backward(), step.last_layer(), step.last_computed_again(), step.first_layer())
    backward = max(moments, key=lambda peak: peak.allocated(held))
    return step.forward(), backward, Peak(phase="optimizer", gradients=held.gradients), step.evaluation()


class _Step:
    """The moments of a step at which memory can be at its highest."""

    def __init__(self, shape: ModelShape, setup: MemorySetup, held: Resident) -> None:
        self._shape, self._setup, self._held = shape, setup, held
        whole = replace(setup, checkpointing=False)
        twice = [(layer.count, LayerMemory(shape, setup, layer)) for layer in shape.layer_shapes if layer.count]
        once = [(layer.count, LayerMemory(shape, whole, layer)) for layer in shape.layer_shapes if layer.count]
        share = setup.checkpointed_of(shape.layers) / max(1, shape.layers)  # of each kind as many
        self._inputs = int(share * sum(count * layer.input for count, layer in twice))
        self._kept = self._inputs + int((1 - share) * sum(count * layer.saved() for count, layer in once))
        self._whole = 1 - share  # the part of the layers that keep all they saved: the last ones
        heaviest, self._last = (max((layer for _, layer in of), key=LayerMemory.backward) for of in (twice, once))
        self._layer = heaviest if share else self._last  # wherever it stands
        self._carried = held.gradients if setup.accumulation > 1 else 0
        rotary = 2 * setup.compute_bytes * shape.head_dim * setup.row_tokens
        mask = setup.batch * setup.row_tokens**2 if setup.masked else 0
        per_layer = _PER_LAYER_INPUT * sum(linear.outputs for linear in shape.outer_linears) * setup.tokens
        self._shared = rotary + per_layer + mask * (setup.compute_bytes if setup.attention == "eager" else 1)

    def forward(self) -> Peak:
        """The head has scored the last tile."""
        return Peak(
            phase="forward", gradients=self._carried, activations=self._before_head(), logits=self._logits_forward()
        )

    def head_backward(self) -> Peak:
        """The head's gradient is being gathered."""
        return Peak(
            phase="backward", gradients=self._carried, activations=self._before_head(), logits=self._logits_backward()
        )

    def last_layer(self) -> Peak:
        """The last layer runs backward, while all others still hold what they saved."""
        last = self._last.backward() - self._last.saved() if self._whole else self._layer.backward()
        return Peak(phase="backward", gradients=self._carried, activations=self._shared + self._kept + last)

    def last_computed_again(self) -> Peak:
        """The last of the layers that are checkpointed is computed again: those behind it have given back theirs."""
        gradients = max(self._carried, int(self._held.gradients * self._whole))
        activations = self._shared + self._inputs + self._layer.backward()
        return Peak(phase="backward", gradients=gradients, activations=activations)

    def first_layer(self) -> Peak:
        """The first layer runs backward, and all gradients but its own are there."""
        layers = max(1, self._shape.layers)
        gradients = max(self._carried, self._held.gradients * (layers - 1) // layers)
        activations = self._shared + self._layer.input + self._layer.backward()
        return Peak(phase="backward", gradients=gradients, activations=activations)

    def evaluation(self) -> Peak:
        """Held-out rows pass a layer, or their words are scored; nothing is kept."""
        words = self._logits_forward()
        head = Peak(phase="evaluation", activations=self._shared + self._head_input(), logits=words)
        layer = Peak(phase="evaluation", activations=self._shared + self._layer.forward())
        return max(head, layer, key=lambda peak: peak.allocated(self._held))

    def _before_head(self) -> int:
        return self._shared + self._kept + self._head_input()

    def _head_input(self) -> int:
        last_norm = (4 * self._shape.hidden_size + 4) * self._setup.tokens
        return last_norm + (self._layer.input if self._setup.loss == "fused" else 0)

    def _scored(self) -> int:
        return int(self._setup.tokens * self._setup.trained_share)

    def _tile(self) -> int:
        return self._setup.compute_bytes * min(self._scored(), HEAD_TILE_TOKENS) * HEAD_TILE_WORDS

    def _logits_forward(self) -> int:
        if self._setup.loss == "plain":
            return _PLAIN_LOGITS_FORWARD * self._shape.vocabulary * self._setup.tokens
        hidden = self._layer.residual * self._shape.hidden_size
        return self._scored() * (hidden + _HEAD_STATISTICS) + self._tile()

    def _logits_backward(self) -> int:
        if self._setup.loss == "plain":
            return _PLAIN_LOGITS_BACKWARD * self._shape.vocabulary * self._setup.tokens
        hidden = self._layer.residual * self._shape.hidden_size
        gradient = 4 * self._shape.hidden_size
        gathered = max(self._tile(), hidden * self._scored())
        return self._scored() * (hidden + gradient + _HEAD_STATISTICS) + gathered
