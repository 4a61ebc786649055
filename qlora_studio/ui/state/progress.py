"""How far a run or another job is, in words. Pure; no Qt, and no numpy: the first paint needs it."""

from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.reports import AwakeReported
from qlora_studio.core.run.run_state import RunState, is_at_risk, work_at_risk
from qlora_studio.core.words import say

_TONES = {
    Phase.WAITING: "warn",
    Phase.RECOVERING: "warn",
    Phase.FAILED: "bad",
    Phase.FINISHED: "ok",
    Phase.PAUSED: "warn",
    Phase.STOPPED: "muted",
    Phase.CANCELLED: "muted",
    Phase.NEW: "muted",
}


def phase_tone(phase: Phase) -> str:
    """Return the colour token of a phase."""
    return _TONES.get(phase, "accent")


def progress_share(state: RunState) -> float | None:
    """Return how much of the present work is done, 0 to 1, None where that is not known."""
    if state.phase == Phase.TRAINING and state.total_steps:
        return min(1.0, state.step / state.total_steps)
    if state.progress is not None and state.progress.total:
        return min(1.0, state.progress.done / state.progress.total)
    return None


def progress_text(state: RunState) -> str:
    """Return step and epoch while training, else how far the phase is."""
    if state.phase in (Phase.TRAINING, Phase.EVALUATING) and state.total_steps:
        parts = [say("step {step:,} of {total:,}", step=state.step, total=state.total_steps)]
        parts += [say("epoch {epoch:.2f}", epoch=state.last_step.epoch)] if state.last_step else []
        return " · ".join(parts)
    progress = state.progress
    if progress is None or not progress.total:
        return ""
    if progress.unit == "bytes":
        return say("{done} of {total}", done=bytes_text(progress.done), total=bytes_text(progress.total))
    return say("{done:,} of {total:,} {unit}", done=progress.done, total=progress.total, unit=progress.unit).rstrip()


def eta_text(state: RunState) -> str:
    """Return the time left, or nothing."""
    step = state.last_step
    if step is None or step.eta_seconds is None or not is_at_risk(state):
        return ""
    return say("{eta_seconds} left", eta_seconds=duration_text(step.eta_seconds))


def risk_text(state: RunState, now: float) -> str:
    """Return the newest safe checkpoint and what a crash would cost."""
    if not is_at_risk(state):
        return ""
    safe = (
        say("Safe checkpoint {step}, ", step=state.checkpoint.step) if state.checkpoint else say("No checkpoint yet, ")
    )
    return say("{safe}{work_at_risk} of work at risk", safe=safe, work_at_risk=duration_text(work_at_risk(state, now)))


def is_kept_awake(state: RunState) -> bool | None:
    """Whether the worker keeps the computer from falling asleep; None where none is at work, or none has told."""
    told = [item.report.active for item in state.reports if isinstance(item, AwakeReported)]
    return told[-1] if told and not state.phase.is_over else None
