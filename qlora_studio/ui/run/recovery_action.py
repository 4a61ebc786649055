"""What a failed run offers besides trying the same again, as a value: one button that makes it so. Pure; no Qt."""

from dataclasses import dataclass

from qlora_studio.core.config.run_config import AUTO_CARD, CPU
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say

_FACTOR = 0.5


@dataclass(frozen=True)
class RecoveryAction:
    """A button's word, what it does, and the order that the resumed worker gets, or the card that it is started on.

    `question` is asked before.
    """

    label: str
    tip: str
    command: Command | None = None
    question: str = ""
    gpus: str = ""

    @property
    def is_advised(self) -> bool:
        """Whether it is the best way to go on; what is asked about first is the user's own risk."""
        return not self.question


def recovery_action(state: RunState) -> RecoveryAction | None:
    """Return what is offered after the run's failure, or None where resuming is all there is."""
    kind = state.failure.kind if state.failure is not None else ""
    if kind == FailureKind.NON_FINITE_LOSS:
        where = say("step {step:,}", step=state.checkpoint.step) if state.checkpoint is not None else say("the start")
        return RecoveryAction(
            say("Go on from {where} with half the rate", where=where),
            say("Rolls back to the last good state and trains on with half the learning rate"),
            LowerRate(factor=_FACTOR),
        )
    if kind == FailureKind.FINGERPRINT_MISMATCH:
        return RecoveryAction(
            say("Go on all the same …"),
            say("Trains on with what is there now, and keeps on record that it did"),
            AcceptChanges(),
            question=say(
                "The steps so far were taken with something else. What the run learns from "
                "here on may not fit what it learned before, and it cannot be repeated from "
                "its settings. The run keeps a record of this."
            ),
        )
    if kind == FailureKind.NO_CARD:
        return RecoveryAction(
            say("Train on a card that is here"), say("This time on the card with the most free memory"), gpus=AUTO_CARD
        )
    if kind == FailureKind.CARD_UNUSABLE:
        return RecoveryAction(
            say("Train on the processor …"),
            say("This time without the card"),
            question=say(
                "A processor takes some hundred times as long as a card: fit for small models and short tests."
            ),
            gpus=CPU,
        )
    return None
