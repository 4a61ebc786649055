"""How far a run or another job is, in words. Pure; no Qt, and no numpy: the first paint needs it."""

from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run.run_state import Phase, RunState, work_at_risk

_ACTIVITIES = {
    "loading_libraries": "Starting",
    "downloading": "Downloading the model",
    "converting_model": "Converting the model",
    "preparing_data": "Preparing the data",
    "checking_base": "Checking the base model",
    "loading_model": "Loading the model",
    "probing": "Trying the longest rows",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Saving",
    "exporting": "Exporting",
    "merging": "Merging",
    "verifying": "Verifying",
    "waiting_for_space": "Waiting for disk space",
}
_PHASES = {
    Phase.NEW: "Not started",
    Phase.STARTING: "Starting",
    Phase.PREPARING: "Preparing",
    Phase.TRAINING: "Training",
    Phase.EVALUATING: "Evaluating",
    Phase.SAVING: "Saving",
    Phase.EXPORTING: "Exporting",
    Phase.WAITING: "Waiting for disk space",
    Phase.RECOVERING: "Recovering",
    Phase.PAUSED: "Paused",
    Phase.STOPPED: "Stopped",
    Phase.FINISHED: "Finished",
    Phase.FAILED: "Failed",
}
_TONES = {
    Phase.WAITING: "warn",
    Phase.RECOVERING: "warn",
    Phase.FAILED: "bad",
    Phase.FINISHED: "ok",
    Phase.PAUSED: "warn",
    Phase.STOPPED: "muted",
    Phase.NEW: "muted",
}


def phase_text(state: RunState) -> str:
    """Return what a run does now, in words."""
    words = _ACTIVITIES.get(state.activity, "") if not state.phase.is_over else ""
    return words or _PHASES[state.phase]


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
        epoch = f" · epoch {state.last_step.epoch:.2f}" if state.last_step else ""
        return f"step {state.step:,} of {state.total_steps:,}{epoch}"
    progress = state.progress
    if progress is None or not progress.total:
        return ""
    if progress.unit == "bytes":
        return f"{bytes_text(progress.done)} of {bytes_text(progress.total)}"
    return f"{progress.done:,} of {progress.total:,} {progress.unit}".rstrip()


def eta_text(state: RunState) -> str:
    """Return the time left, or nothing."""
    step = state.last_step
    if state.phase.is_over or step is None or step.eta_seconds is None or state.phase == Phase.EXPORTING:
        return ""
    return f"{duration_text(step.eta_seconds)} left"


def risk_text(state: RunState, now: float) -> str:
    """Return the newest safe checkpoint and what a crash would cost."""
    if state.phase.is_over or state.last_step is None or state.phase == Phase.EXPORTING:
        return ""
    safe = f"Safe checkpoint {state.checkpoint.step}, " if state.checkpoint else "No checkpoint yet, "
    return f"{safe}{duration_text(work_at_risk(state, now))} of work at risk"


def is_kept_awake(state: RunState) -> bool | None:
    """Whether the worker keeps the computer from falling asleep; None where none is at work, or none has told."""
    told = [item.report.get("active") for item in state.reports if item.kind == "awake"]
    return bool(told[-1]) if told and not state.phase.is_over else None
