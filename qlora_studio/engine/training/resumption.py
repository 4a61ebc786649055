"""Where a run goes on from, and on which terms: its newest safe checkpoint, what changed, what the user allowed."""

from collections.abc import Sequence
from typing import Any, Literal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.events import ChangeAccepted, Fingerprint, RateLowered
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext, Reporter
from qlora_studio.storage.runs.checkpoint_folder import Checkpoint, CheckpointFolder
from qlora_studio.storage.runs.fingerprint import differences

_PARTS: dict[Literal["base", "data"], str] = {"base": "base model", "data": "dataset"}


def newest_safe_checkpoint(
    context: JobContext, facts: dict[str, Any], initial_commands: Sequence[Command]
) -> Checkpoint | None:
    """Return where to go on from; a damaged checkpoint on the way is set aside and told.

    `facts` are the fingerprints of base and data as they are now. Raises StudioError where they are no longer what the
    run began with, unless the user ordered to go on all the same, which is told too.
    """
    folder = CheckpointFolder(context.folder.checkpoints_path)
    checkpoint = folder.newest_safe(
        lambda path, why: context.warn("damaged_checkpoint", f"{why}. It is set aside as {path.name}.")
    )
    if checkpoint is not None:
        accepted = [(event.what, event.fingerprint) for event in context.folder.state().accepted]
        for what in _PARTS:
            changes = differences(checkpoint.facts.get(what, {}), facts[what])
            if changes and (what, Fingerprint.model_validate(facts[what])) not in accepted:
                _accept_or_refuse(what, changes, checkpoint.step, facts[what], initial_commands, context)
    return checkpoint


def with_lowered_rate(
    config: RunConfig, step: int, initial_commands: Sequence[Command], context: JobContext
) -> RunConfig:
    """Return the config with the learning rate that holds from `step` on: lowered now, or in an earlier session."""
    scale = context.folder.state().rate_scale
    for command in initial_commands:
        if isinstance(command, LowerRate):
            scale *= command.factor
            context.emit(RateLowered(step=step, scale=scale))
    if scale == 1.0:
        return config
    training = config.training.model_copy(update={"learning_rate": config.training.learning_rate * scale})
    return config.model_copy(update={"training": training})


def _accept_or_refuse(
    what: Literal["base", "data"],
    changes: list[str],
    step: int,
    found: dict[str, Any],
    initial_commands: Sequence[Command],
    reporter: Reporter,
) -> None:
    name = _PARTS[what]
    if not any(isinstance(command, AcceptChanges) for command in initial_commands):
        raise StudioError(
            f"The {name} is not what this run began with: {changes[0]}.",
            kind=FailureKind.FINGERPRINT_MISMATCH,
            advice="Put the original back, or start a new run. To go on all the same is possible, and is recorded.",
            detail="\n".join(changes),
        )
    reporter.emit(ChangeAccepted(what=what, step=step, changes=changes, fingerprint=Fingerprint.model_validate(found)))
    reporter.warn("change_accepted", f"Going on with another {name} than before, as you asked: {changes[0]}.")
