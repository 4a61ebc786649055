"""What the Run page and the status line say of a run, as values: tiles, findings, phases in words. Pure; no Qt."""

import math
import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from qlora_studio.core.quantity import bytes_text, count_text, duration_text
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_state import Phase, RunState, work_at_risk
from qlora_studio.ui.run.marks import spikes_sentence

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
_RECENT = 50


@dataclass(frozen=True)
class Tile:
    """A figure of the run: what, how much, a word about it."""

    title: str
    value: str = "–"
    note: str = ""


def phase_text(state: RunState) -> str:
    """Return what a run does now, in words."""
    words = _ACTIVITIES.get(state.activity, "") if not state.phase.is_over else ""
    return words or _PHASES[state.phase]


def phase_tone(phase: Phase) -> str:
    """Return the colour token of a phase."""
    return _TONES.get(phase, "accent")


def model_name(source: str) -> str:
    """Return the short name of a base model: the last part of a hub id or path."""
    return "SmolLM2-135M-Instruct" if source == "starter" else source.rstrip("/\\").replace("\\", "/").split("/")[-1]


def subtitle(config: RunConfig, state: RunState) -> str:
    """Return the line below the run's name: model, data, rank, length, effective batch."""
    rows = f", {state.dataset.training_rows:,} rows" if state.dataset else ""
    parts = (
        model_name(config.model.source),
        config.data.path.replace("\\", "/").split("/")[-1] + rows,
        f"rank {config.lora.rank}",
        f"{config.training.max_length:,} tokens",
        f"effective batch {config.effective_batch}",
    )
    return " · ".join(part for part in parts if part)


def tiles(state: RunState, smoothed_loss: float | None, config: RunConfig | None, now: float) -> tuple[Tile, ...]:
    """Return the six figures of the Run page."""
    step = state.last_step
    rate = f"{step.tokens_per_second:,.0f} tok/s" if step and step.tokens_per_second else "–"
    return (
        Tile("Train loss", figure(smoothed_loss), "smoothed" if smoothed_loss is not None else ""),
        Tile("Evaluation loss", figure(state.evaluation.loss if state.evaluation else None), _best(state)),
        _perplexity(state),
        Tile(
            "Learning rate",
            f"{step.learning_rate:.1e}".replace("e-0", "e-") if step else "–",
            config.training.scheduler.replace("_", " ") if config else "",
        ),
        Tile("Throughput", rate, f"{step.seconds:.1f} s a step" if step and step.seconds else ""),
        _time_left(state, now),
    )


def figure(value: float | None) -> str:
    """Return a loss or a norm with three figures."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def perplexity_text(value: float) -> str:
    """Return a perplexity with about three figures."""
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def findings(state: RunState, history: MetricHistory, config: RunConfig | None) -> tuple[str, ...]:
    """Return what the curves say, in sentences, the most important first."""
    curves = [_trend(state, history), spikes_sentence(history), _gap(state, history), _clipping(history, config)]
    found = [*curves, _data(state), _memory(state), awake_text(state)]
    return tuple(text for text in found if text)


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


def awake_text(state: RunState) -> str:
    """Return whether the computer is kept awake, while a run is at work."""
    awake = is_kept_awake(state)
    if awake is None:
        return ""
    if awake:
        return "This computer is kept awake until the run ends."
    return "This computer could not be kept awake: switch sleep off in its settings for a long run."


def _best(state: RunState) -> str:
    best = state.best_evaluation
    if best is None:
        return ""
    if state.evaluation is not None and best.step == state.evaluation.step:
        return f"best, step {best.step:,}"
    return f"best {figure(best.loss)}, step {best.step:,}"


def _perplexity(state: RunState) -> Tile:
    now, first = state.evaluation, state.first_evaluation
    if now is None or now.perplexity is None:
        return Tile("Perplexity")
    began = f"from {perplexity_text(first.perplexity)}" if first and first.perplexity and first is not now else ""
    return Tile("Perplexity", perplexity_text(now.perplexity), began)


def _time_left(state: RunState, now: float) -> Tile:
    if state.phase.is_over:
        took = state.last_event - state.started
        return Tile("Time", duration_text(took), phase_text(state).lower()) if state.started else Tile("Time left")
    step = state.last_step
    if step is None or step.eta_seconds is None:
        return Tile("Time left")
    return Tile(
        "Time left",
        duration_text(step.eta_seconds),
        "ends " + time.strftime("%H:%M", time.localtime(now + step.eta_seconds)),
    )


def _trend(state: RunState, history: MetricHistory) -> str:
    points = [(int(x), y) for x, y in zip(history.evaluation.x, history.evaluation.y, strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return ""
    (_, first), (before_step, before), (_, last) = points[0], points[-2], points[-1]
    change = last - before
    if abs(change) < 0.002 * abs(before):
        return f"Evaluation loss is level since step {before_step:,}; it began at {figure(first)}."
    if change < 0:
        return f"Evaluation loss still falls: {figure(before)} at step {before_step:,}, {figure(last)} now."
    best = state.best_evaluation
    where = f" The best was {figure(best.loss)} at step {best.step:,}." if best and best.loss is not None else ""
    return f"Evaluation loss rises: {figure(before)} at step {before_step:,}, {figure(last)} now.{where}"


def _gap(state: RunState, history: MetricHistory) -> str:
    loss = history.steps["loss"].y[-_RECENT:]
    known = loss[np.isfinite(loss)]
    if len(known) < 10 or state.evaluation is None or state.evaluation.loss is None:
        return ""
    gap = state.evaluation.loss - float(known.mean())
    if gap > 0.3 * state.evaluation.loss:
        return f"Evaluation loss is {gap:.2f} above the training loss: a sign of overfitting."
    return "No sign of overfitting."


def _clipping(history: MetricHistory, config: RunConfig | None) -> str:
    norms = history.steps["gradient_norm"].y[-_RECENT:]
    known = norms[np.isfinite(norms)]
    if config is None or len(known) < 10:
        return ""
    clipped = float((known > config.training.max_grad_norm).mean())
    text = f"Gradient norm {median(known.tolist()):.2f}"  # numpy's own imports masked arrays: 60 ms
    return (
        f"{text}; {clipped:.0%} of the last {len(known)} steps were clipped." if clipped else f"{text}, never clipped."
    )


def _data(state: RunState) -> str:
    data = state.dataset
    if data is None:
        return ""
    held = f", {data.evaluation_rows:,} held out" if data.evaluation_rows else ", none held out"
    rejected = f", {data.rejected_rows:,} rejected" if data.rejected_rows else ""
    share = data.trained_tokens / data.tokens if data.tokens else 0.0
    return f"{data.training_rows:,} rows{held}{rejected}; {share:.0%} of {count_text(data.tokens)} tokens are trained."


def _memory(state: RunState) -> str:
    step = state.last_step
    if step is None:
        return ""
    if step.peak_bytes:
        probe = (
            f"; the longest rows took {bytes_text(state.probe.allocated_bytes)} before the run" if state.probe else ""
        )
        return f"At most {bytes_text(step.peak_bytes)} of the card in use by torch's count{probe}."
    verb = "held" if state.phase.is_over else "holds"
    return f"The worker {verb} {bytes_text(step.process_bytes)}." if step.process_bytes else ""
