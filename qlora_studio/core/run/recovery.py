"""How a run gets over a fault in a new process: CUDA errors are sticky, and memory comes back when a process ends."""

from dataclasses import dataclass, replace
from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed, Recovering
from qlora_studio.core.run.run_state import RunState

_MOST_HALVINGS = 2
_AS_IT_WAS = {  # faults after which the same is tried again, and why; without a reason here, the failure's own words
    FailureKind.CARD_LOST: "The card stopped answering",
    FailureKind.MAPPING_FAILED: "The driver cannot map memory as it is needed, and does without from now on",
    FailureKind.WORKER_DIED: "",
}


@dataclass(frozen=True)
class BatchPlan:
    """How an effective batch is made up, and whether every layer is checkpointed whatever the config says."""

    batch_size: int
    gradient_accumulation: int
    checkpoints_all: bool = False

    def halved(self) -> "BatchPlan":
        """Return the plan with half the rows on the card at once and the same rows in a step, in the same order."""
        return replace(self, batch_size=self.batch_size // 2, gradient_accumulation=self.gradient_accumulation * 2)


def batch_plan(config: RunConfig, state: RunState) -> BatchPlan:
    """Return the batch of the config, as the last recovery left it."""
    if state.recoveries:
        last = state.recoveries[-1]
        return BatchPlan(last.batch_size, last.gradient_accumulation, last.checkpoints_all)
    return BatchPlan(config.training.batch_size, config.training.gradient_accumulation)


def with_plan(config: RunConfig, plan: BatchPlan) -> RunConfig:
    """Return the config with another make-up of the same effective batch."""
    update: dict[str, Any] = {"batch_size": plan.batch_size, "gradient_accumulation": plan.gradient_accumulation}
    if plan.checkpoints_all:
        update |= {"gradient_checkpointing": "on", "checkpointed_layers": 0}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def recovery_from(failed: Failed, config: RunConfig, state: RunState) -> Recovering | None:
    """Return how to get over a failure, or None where that was tried often enough, or cannot help.

    Out of memory: first every layer checkpointed, where some were not; then half the batch, twice the accumulation, at
    most twice. Other faults: once more as it was, and once again only where a checkpoint has been saved beyond the step
    that the last one of the kind struck in.
    """
    plan = batch_plan(config, state)
    before = [event for event in state.recoveries if event.kind == failed.kind]
    if failed.kind == FailureKind.OUT_OF_MEMORY and not plan.checkpoints_all and _kept_some(config, state):
        plan = replace(plan, checkpoints_all=True)
        why = "Out of memory: every layer computes its activations twice from now on. The steps stay the same."
    elif failed.kind == FailureKind.OUT_OF_MEMORY:
        if len(before) - plan.checkpoints_all == _MOST_HALVINGS or plan.batch_size % 2:
            return None
        plan = plan.halved()
        why = f"Out of memory: the batch is halved to {plan.batch_size}, accumulation doubled. The steps stay the same."
    elif failed.kind not in _AS_IT_WAS or (before and not _came_beyond(before[-1], state)):
        return None
    else:
        why = f"{_AS_IT_WAS[failed.kind] or failed.message.removesuffix('.')}: {_goes_on(state)}"
    return Recovering(
        kind=failed.kind,
        message=why,
        step=state.step,
        batch_size=plan.batch_size,
        gradient_accumulation=plan.gradient_accumulation,
        checkpoints_all=plan.checkpoints_all,
    )


def _kept_some(config: RunConfig, state: RunState) -> bool:
    """Whether layers keep their activations since there seemed to be memory for it, not because the user said so."""
    training = config.training
    by_itself = training.gradient_checkpointing == "auto" and not training.checkpointed_layers
    return by_itself and state.model is not None and state.model.checkpointed_layers < state.model.layers


def _came_beyond(recovery: Recovering, state: RunState) -> bool:
    return state.checkpoint is not None and state.checkpoint.step > recovery.step


def _goes_on(state: RunState) -> str:
    if state.checkpoint is None:
        return "the run begins again, since it has no safe checkpoint yet."
    return "the run goes on from its last safe checkpoint."
