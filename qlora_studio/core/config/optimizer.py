"""The optimizers, each once: its words, what it keeps for each tensor that it trains, and where that may lie.

A name is what stands in `run.toml`, and what transformers calls it (`optim`) unless `made_as` says otherwise.
"""

from dataclasses import dataclass

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

AUTO = "auto"
ON_CARD, ON_CPU = "paged_adamw_32bit", "adamw_torch"  # what auto stands for
LIGHTEST = "paged_adamw_8bit"
OF_FULL_TRAINING = "adamw_torch_fused"  # the usual one where every weight is trained; what plans compare with
_FULL_STATE = 4  # bytes: a state in fp32
_PAGED_FROM = 100_000  # elements: bitsandbytes pages no smaller tensor
_BLOCK, _SMALLEST_8BIT = 256, 4096  # elements: numbers with a scale in common, and what bitsandbytes leaves in fp32


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer. `states` is how many numbers it keeps for each trained one, `state_bytes` the size of one.

    `state_bytes` of 0 is the parameter's own size. Tensors of fewer elements than `quantized_from` keep fp32, those of
    fewer than `paged_from` stay on the card, and paging needs a card. `made_as` is transformers' name for one that it
    has paged alone: the trainer then switches paging off. Only an `offered` one can be chosen for a run.
    """

    title: str
    offered: bool = True
    made_as: str = ""
    states: int = 2
    state_bytes: int = _FULL_STATE
    counter_bytes: int = 0
    block: int = 0
    quantized_from: int = 0
    paged_from: int | None = None

    @property
    def needs_card(self) -> bool:
        """Whether it pages its state, which is CUDA's."""
        return self.paged_from is not None

    def stored_bytes(self, numbers: int, number_bytes: int) -> int:
        """Return what its state weighs in a checkpoint, for so many trained numbers that take so many bytes.

        Tensors that are too small to be quantized are few.
        """
        size = self.states * (self.state_bytes * numbers or number_bytes)
        return size + (self.states * 4 * numbers // self.block if self.block else 0)

    def buffers(self, elements: int, element_bytes: int) -> tuple[list[int], list[int]]:
        """Return the sizes of what it keeps for one tensor: in ordinary memory of the card, and in managed memory."""
        size, scales = self.state_bytes or element_bytes, []
        if self.block:
            quantized = elements >= self.quantized_from
            size = size if quantized else _FULL_STATE
            scales = self.states * [4 * -(-elements // self.block)] if quantized else []
        counter = [self.counter_bytes] if self.counter_bytes else []
        states = self.states * [size * elements]
        if self.paged_from is not None and elements >= self.paged_from:
            return [*counter, *scales], states
        return [*counter, *states, *scales], []


OPTIMIZERS: dict[str, Optimizer] = {
    ON_CARD: Optimizer(title=say("Paged AdamW, 32-bit"), paged_from=_PAGED_FROM),
    LIGHTEST: Optimizer(
        title=say("Paged AdamW, 8-bit"),
        state_bytes=1,
        block=_BLOCK,
        quantized_from=_SMALLEST_8BIT,
        paged_from=_PAGED_FROM,
    ),
    "adamw_32bit": Optimizer(title=say("AdamW, 32-bit, not paged"), made_as=ON_CARD),
    "adamw_8bit": Optimizer(
        title=say("AdamW, 8-bit, not paged"), state_bytes=1, block=_BLOCK, quantized_from=_SMALLEST_8BIT
    ),
    ON_CPU: Optimizer(title=say("AdamW"), offered=False, state_bytes=0),
    OF_FULL_TRAINING: Optimizer(title=say("AdamW, fused"), offered=False, state_bytes=0, counter_bytes=4),
}


def optimizer_named(name: str) -> Optimizer:
    """Return an optimizer. Raises StudioError for a name that is not known."""
    known = OPTIMIZERS.get(name)
    if known is None:
        raise StudioError(
            say('"{name}" is no optimizer.', name=name),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("There are: {optimizers}.", optimizers=", ".join(OPTIMIZERS)),
        )
    return known


def optimizer_choices() -> dict[str, str]:
    """Return the words of everything that a run may ask for, by name."""
    return {AUTO: say("Auto"), **{name: item.title for name, item in OPTIMIZERS.items() if item.offered}}


def resolved(wish: str, *, on_card: bool = True) -> str:
    """Return the name of the optimizer that runs: auto, and what needs a card where there is none, are replaced."""
    name = ON_CARD if wish == AUTO else wish
    return ON_CPU if optimizer_named(name).needs_card and not on_card else name
