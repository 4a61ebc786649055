"""What the curves of a run say, in sentences, the most important first. Pure; no Qt."""

import math
from statistics import median

import numpy as np

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.quantity import bytes_text, count_text, loss_text
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
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
        return say("This computer is kept awake until the run ends.")
    return say("This computer could not be kept awake: switch sleep off in its settings for a long run.")


def _trend(state: RunState, history: MetricHistory) -> str:
    points = [(int(x), y) for x, y in zip(history.evaluation.x, history.evaluation.y, strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return ""
    (_, first), (before_step, before), (_, last) = points[0], points[-2], points[-1]
    change = last - before
    if abs(change) < 0.002 * abs(before):
        return say(
            "Evaluation loss is level since step {before_step:,}; it began at {first}.",
            before_step=before_step,
            first=loss_text(first),
        )
    if change < 0:
        return say(
            "Evaluation loss still falls: {before} at step {before_step:,}, {last} now.",
            before=loss_text(before),
            before_step=before_step,
            last=loss_text(last),
        )
    best = state.best_evaluation
    rises = say(
        "Evaluation loss rises: {before} at step {before_step:,}, {last} now.",
        before=loss_text(before),
        before_step=before_step,
        last=loss_text(last),
    )
    if not best or best.loss is None:
        return rises
    return f"{rises} " + say("The best was {loss} at step {step:,}.", loss=loss_text(best.loss), step=best.step)


def _gap(state: RunState, history: MetricHistory) -> str:
    loss = history.steps["loss"].y[-_RECENT:]
    known = loss[np.isfinite(loss)]
    if len(known) < 10 or state.evaluation is None or state.evaluation.loss is None:
        return ""
    gap = state.evaluation.loss - float(known.mean())
    if gap > 0.3 * state.evaluation.loss:
        return say("Evaluation loss is {gap:.2f} above the training loss: a sign of overfitting.", gap=gap)
    return say("No sign of overfitting.")


def _clipping(history: MetricHistory, config: RunConfig | None) -> str:
    norms = history.steps["gradient_norm"].y[-_RECENT:]
    known = norms[np.isfinite(norms)]
    if config is None or len(known) < 10:
        return ""
    clipped = float((known > config.training.max_grad_norm).mean())
    norm = median(known.tolist())  # numpy's own imports masked arrays: 60 ms
    if not clipped:
        return say("Gradient norm {norm:.2f}, never clipped.", norm=norm)
    return say(
        "Gradient norm {norm:.2f}; {clipped:.0%} of the last {steps} steps were clipped.",
        norm=norm,
        clipped=clipped,
        steps=len(known),
    )


def _data(state: RunState) -> str:
    data = state.dataset
    if data is None:
        return ""
    held = say("{held:,} held out", held=data.evaluation_rows) if data.evaluation_rows else say("none held out")
    parts = [say("{rows:,} rows", rows=data.training_rows), held]
    parts += [say("{rejected:,} rejected", rejected=data.rejected_rows)] if data.rejected_rows else []
    parts += [say("{excluded:,} left out by hand", excluded=data.excluded_rows)] if data.excluded_rows else []
    share = data.trained_tokens / data.tokens if data.tokens else 0.0
    return say(
        "{rows}; {share:.0%} of {tokens} tokens are trained.",
        rows=", ".join(parts),
        share=share,
        tokens=count_text(data.tokens),
    )


def _memory(state: RunState) -> str:
    step = state.last_step
    if step is None:
        return ""
    if step.peak_bytes:
        peak = bytes_text(step.peak_bytes)
        if not state.probe:
            return say("At most {peak} of graphics memory, as torch counts.", peak=peak)
        return say(
            "At most {peak} of graphics memory, as torch counts; {probed} in the trial step of the longest rows.",
            peak=peak,
            probed=bytes_text(state.probe.allocated_bytes),
        )
    if not step.process_bytes:
        return ""
    held = bytes_text(step.process_bytes)
    if state.phase.is_over:
        return say("The worker took {held} of main memory.", held=held)
    return say("The worker takes {held} of main memory.", held=held)
