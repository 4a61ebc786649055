"""What the curves of a run say, in sentences, the most important first. Pure; no Qt."""

import math
from statistics import median

import numpy as np

from qlora_studio.core.quantity import bytes_text, count_text, loss_text
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.run.marks import spikes_sentence
from qlora_studio.ui.state.progress import is_kept_awake

_RECENT = 50


def findings(state: RunState, history: MetricHistory, config: RunConfig | None) -> tuple[str, ...]:
    """Return what the curves say, in sentences, the most important first."""
    early = state.stopped_early.words if state.stopped_early else ""
    curves = [_trend(state, history), spikes_sentence(history), _gap(state, history), _clipping(history, config)]
    found = [early, *curves, _data(state), _memory(state), awake_text(state)]
    return tuple(text for text in found if text)


def awake_text(state: RunState) -> str:
    """Return whether the computer is kept awake, while a run is at work."""
    awake = is_kept_awake(state)
    if awake is None:
        return ""
    if awake:
        return "This computer is kept awake until the run ends."
    return "This computer could not be kept awake: switch sleep off in its settings for a long run."


def _trend(state: RunState, history: MetricHistory) -> str:
    points = [(int(x), y) for x, y in zip(history.evaluation.x, history.evaluation.y, strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return ""
    (_, first), (before_step, before), (_, last) = points[0], points[-2], points[-1]
    change = last - before
    if abs(change) < 0.002 * abs(before):
        return f"Evaluation loss is level since step {before_step:,}; it began at {loss_text(first)}."
    if change < 0:
        return f"Evaluation loss still falls: {loss_text(before)} at step {before_step:,}, {loss_text(last)} now."
    best = state.best_evaluation
    where = f" The best was {loss_text(best.loss)} at step {best.step:,}." if best and best.loss is not None else ""
    return f"Evaluation loss rises: {loss_text(before)} at step {before_step:,}, {loss_text(last)} now.{where}"


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
    rejected += f", {data.excluded_rows:,} left out by hand" if data.excluded_rows else ""
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
