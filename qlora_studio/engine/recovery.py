"""Getting over a fault in a new process: CUDA errors are sticky, and memory comes back only when a process ends."""

import os
import sys
import warnings
from dataclasses import dataclass

from qlora_studio.core.run.events import Failed, Recovering
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_state import RunState

RECOVERABLE = ("out_of_memory", "card_lost")
_MOST_HALVINGS = 2
_MOST_RESTARTS = 1


@dataclass(frozen=True)
class BatchPlan:
    """How an effective batch is made up."""

    batch_size: int
    gradient_accumulation: int

    def halved(self) -> "BatchPlan":
        """Return the plan with half the rows on the card at once and the same rows in a step, in the same order."""
        return BatchPlan(self.batch_size // 2, self.gradient_accumulation * 2)


def batch_plan(config: RunConfig, state: RunState) -> BatchPlan:
    """Return the batch of the config, as the last recovery left it."""
    if state.recoveries:
        last = state.recoveries[-1]
        return BatchPlan(last.batch_size, last.gradient_accumulation)
    return BatchPlan(config.training.batch_size, config.training.gradient_accumulation)


def with_plan(config: RunConfig, plan: BatchPlan) -> RunConfig:
    """Return the config with another make-up of the same effective batch."""
    update = {"batch_size": plan.batch_size, "gradient_accumulation": plan.gradient_accumulation}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def recovery_from(failed: Failed, config: RunConfig, state: RunState) -> Recovering | None:
    """Return how to get over a failure, or None where that was tried often enough, or cannot help.

    Out of memory: half the batch, twice the accumulation, at most twice. A lost card: once more as it was.
    """
    plan = batch_plan(config, state)
    before = sum(event.kind == failed.kind for event in state.recoveries)
    if failed.kind == "out_of_memory" and before < _MOST_HALVINGS and plan.batch_size % 2 == 0:
        plan = plan.halved()
        message = (
            f"Out of memory: the batch is halved to {plan.batch_size}, accumulation doubled. The steps stay the same."
        )
    elif failed.kind == "card_lost" and before < _MOST_RESTARTS:
        message = "The card stopped answering: the run goes on from its last safe checkpoint."
    else:
        return None
    return Recovering(
        kind=failed.kind,
        message=message,
        step=state.step,
        batch_size=plan.batch_size,
        gradient_accumulation=plan.gradient_accumulation,
    )


def start_again(path: str) -> None:
    """Replace this process by a fresh worker for the same folder; nothing of the card's context survives.

    On Windows, which cannot replace a process, the fresh worker is a new one and this one ends.
    """
    arguments = [sys.executable, "-P", "-m", "qlora_studio", "worker", path]
    os.environ.pop("QLORA_STUDIO_COMMANDS_FROM", None)
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        import subprocess

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            subprocess.Popen(arguments, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS)
        os._exit(0)
    os.closerange(3, 65536)  # the driver's files too: else the old context would hold the card's memory
    os.execv(sys.executable, arguments)
