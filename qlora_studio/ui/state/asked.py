"""What a run's worker was asked and has not done yet: said from the click on, for a step can take minutes."""

from dataclasses import dataclass

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Command, EvaluateNow, Pause, Resume, SaveCheckpoint, Stop
from qlora_studio.core.run.run_state import RunState


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
    when = " after this step …" if state.phase == Phase.TRAINING else " …"
    match asked.command:
        case Pause():
            return f"Pausing{when}"
        case Stop():
            return f"Stopping{when}" if asked.command.save else f"Stopping without saving{when}"
        case SaveCheckpoint() if state.checkpoint == asked.before.checkpoint:
            return f"Saving a checkpoint{when}"
        case EvaluateNow() if state.evaluation == asked.before.evaluation:
            return f"Evaluating{when}"
        case Resume() if state.phase == Phase.WAITING:
            return "Going on …"
        case None:
            return "Ending the worker …"
    return ""
