"""Where a run goes on from, and on which terms: its newest safe checkpoint, what changed, what the user allowed."""

from collections.abc import Sequence
from typing import Literal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.events import ChangeAccepted, RateLowered
from qlora_studio.core.run.fingerprint import Fingerprint, Fingerprints, differences
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext, Reporter
from qlora_studio.storage.runs.checkpoint_folder import Checkpoint, CheckpointFolder

Part = Literal["base", "data"]
_PARTS: dict[Part, str] = {"base": "base model", "data": "dataset"}


def newest_safe_checkpoint(
    context: JobContext, made_from: Fingerprints, initial_commands: Sequence[Command]
) -> Checkpoint | None:
    """Return where to go on from; a damaged checkpoint on the way is set aside and told.

    `made_from` is of base and data as they are now. Raises StudioError where they are no longer what the
    run began with, unless the user ordered to go on all the same, which is told too.
    """
    folder = CheckpointFolder(context.folder.checkpoints_path)
    checkpoint = folder.newest_safe(
        lambda path, why: context.warn(
            "damaged_checkpoint", say("{why}. It is set aside as {name}.", why=why, name=path.name)
        )
    )
    if checkpoint is not None:
        accepted = [(event.what, event.fingerprint) for event in context.folder.state().accepted]
        began_with = checkpoint.manifest
        compared: tuple[tuple[Part, Fingerprint, Fingerprint], ...] = (
            ("base", began_with.base, made_from.base),
            ("data", began_with.data, made_from.data),
        )
        for what, before, now in compared:
            changes = differences(before, now)
            if changes and (what, now) not in accepted:
                _accept_or_refuse(what, changes, checkpoint.step, now, initial_commands, context)
    return checkpoint


def with_lowered_rate(
    config: RunConfig, step: int, initial_commands: Sequence[Command], context: JobContext
) -> RunConfig:
    """Return the config with the learning rate that holds from `step` on: lowered now, or in an earlier session."""
    state = context.folder.state()
    scale = state.rate_scale
    for command in initial_commands:
        if isinstance(command, LowerRate) and not _was_obeyed(command, state):
            scale *= command.factor
            context.emit(RateLowered(step=step, scale=scale))
    if scale == 1.0:
        return config
    training = config.training.model_copy(update={"learning_rate": config.training.learning_rate * scale})
    return config.model_copy(update={"training": training})


def _was_obeyed(command: LowerRate, state: RunState) -> bool:
    """Whether a worker that a fault ended had obeyed it: the one that takes its place finds the same commands."""
    recovered = state.recoveries[-1].time if state.recoveries else 0.0
    return any(command.time <= rate.time <= recovered for rate in state.rates)


def _accept_or_refuse(
    what: Part,
    changes: list[str],
    step: int,
    found: Fingerprint,
    initial_commands: Sequence[Command],
    reporter: Reporter,
) -> None:
    name = _PARTS[what]
    if not any(isinstance(command, AcceptChanges) for command in initial_commands):
        raise StudioError(
            say("The {name} is not what this run began with: {changes}.", name=name, changes=changes[0]),
            kind=FailureKind.FINGERPRINT_MISMATCH,
            advice=say(
                "Put the original back, or start a new run. To go on all the same is possible, and is recorded."
            ),
            detail="\n".join(changes),
        )
    reporter.emit(ChangeAccepted(what=what, step=step, changes=changes, fingerprint=found))
    reporter.warn(
        "change_accepted",
        say("Going on with another {name} than before, as you asked: {changes}.", name=name, changes=changes[0]),
    )
