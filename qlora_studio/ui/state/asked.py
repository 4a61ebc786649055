"""What a run's worker was asked and has not done yet: said from the click on, for a step can take minutes."""

from dataclasses import dataclass

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Command, EvaluateNow, Pause, Resume, SaveCheckpoint, Stop
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say


@dataclass(frozen=True)
class Asked:
    """A wish, and the state in which it was uttered. No command: the worker is ended from outside."""

    command: Command | None
    before: RunState

    @property
    def ends(self) -> bool:
        """Whether the session ends by it."""
        return self.command is None or isinstance(self.command, Pause | Stop)

    def stands(self, state: RunState) -> bool:
        """Whether the session that it was said to goes on."""
        return not state.phase.is_over and state.started == self.before.started


def asked_words(asked: Asked | None, state: RunState) -> str:
    """Return what is about to happen, in words; nothing where nothing was asked, or where it is done."""
    if asked is None or not asked.stands(state):
        return ""
    within = state.phase == Phase.TRAINING
    match asked.command:
        case Pause():
            return say("Pausing after this step …") if within else say("Pausing …")
        case Stop() if asked.command.save:
            return say("Stopping after this step …") if within else say("Stopping …")
        case Stop():
            return say("Stopping without saving after this step …") if within else say("Stopping without saving …")
        case SaveCheckpoint() if state.checkpoint == asked.before.checkpoint:
            return say("Saving a checkpoint after this step …") if within else say("Saving a checkpoint …")
        case EvaluateNow() if state.evaluation == asked.before.evaluation:
            return say("Evaluating after this step …") if within else say("Evaluating …")
        case Resume() if state.phase == Phase.WAITING:
            return say("Going on …")
        case None:
            return say("Ending the worker …")
    return ""
