"""What models take that are read and not trained: compared with each other, or answering in a chat. Sizes are bytes."""

from dataclasses import dataclass, replace

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.layer import LayerMemory, widest
from qlora_studio.core.memory.resident import resident, weights_bytes
from qlora_studio.core.memory.setup import MemorySetup, setup_for
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say

MOST_TOKENS = 40_000  # that a verification on a card compares
_HEAD_TILE = 32 << 20  # of the head's weights at a time, with as many scores at most


@dataclass(frozen=True)
class Reading:
    """A use of a model on the card, beside the CUDA context; `streamed_bytes` layer by layer, None where it only loads
    whole.
    """

    key: str
    label: str
    whole_bytes: int
    streamed_bytes: int | None = None

    @property
    def text(self) -> str:
        """In words."""
        streamed = (
            say(", {streamed_bytes} layer by layer", streamed_bytes=bytes_text(self.streamed_bytes))
            if self.streamed_bytes
            else ""
        )
        return f"{self.label}: {bytes_text(self.whole_bytes)}{streamed}"


def readings(config: RunConfig, shape: ModelShape, *, gpu: GpuSpec | None = None) -> tuple[Reading, ...]:
    """Return what follows a run on a card: the verification of what is exported, and its chats, on its longest rows."""
    setup = replace(setup_for(config, shape, gpu=gpu), batch=1, masked=False, checkpointing=False)
    plain = replace(setup, quantization="none", targets=frozenset(), experts=False, dora=False)
    held = resident(shape, setup)
    answers = _kept_words(shape, setup)
    adapted = held.weights + held.adapter + setup.workspace_bytes + answers + _passing(shape, setup)
    merged = weights_bytes(shape, plain) + plain.workspace_bytes
    return (
        verification(shape, plain),
        Reading("chat_adapter", say("Chat with the adapter"), adapted),
        Reading("chat_merged", say("Chat with the merged model"), merged + answers + _passing(shape, plain)),
    )


def verification(shape: ModelShape, plain: MemorySetup, weights: int = 0) -> Reading:
    """Return what it takes to compare models in 16 bit, one in memory at a time; `weights` where files tell them."""
    beside = plain.workspace_bytes + _passing(shape, plain) + 2 * _HEAD_TILE
    layer = widest(shape)
    states = MOST_TOKENS * shape.hidden_size * plain.weight_bytes
    return Reading(
        "verification",
        say("Verification of an export"),
        (weights or weights_bytes(shape, plain)) + beside,
        (layer.quantizable + layer.experts) * plain.weight_bytes + states + beside,
    )


def _passing(shape: ModelShape, setup: MemorySetup) -> int:
    """Return what the words of a row take while they pass a layer."""
    return max(LayerMemory(shape, setup, layer).forward() for layer in shape.layer_shapes)


def _kept_words(shape: ModelShape, setup: MemorySetup) -> int:
    """Return the keys and values of a full context."""
    sizes = ((layer.count, layer.own or shape.sizes) for layer in shape.layer_shapes if layer.attends)
    each = sum(2 * count * size.kv_heads * size.head_dim for count, size in sizes)
    return each * setup.compute_bytes * setup.row_tokens
