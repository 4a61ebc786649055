"""What the Run page and the status line say of a run, as values: tiles, findings, phases in words. Pure; no Qt."""

import time
from dataclasses import dataclass

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.quantity import duration_text, loss_text, perplexity_text
from qlora_studio.core.run.run_state import RunState, phase_text
from qlora_studio.core.run.titles import model_title
from qlora_studio.core.words import say

_SCHEDULES = {
    "cosine": say("cosine"),
    "linear": say("linear"),
    "constant": say("constant"),
    "constant_with_warmup": say("constant with warmup"),
}


@dataclass(frozen=True)
class Tile:
    """A loss_text of the run: what, how much, a word about it."""

    title: str
    value: str = "–"
    note: str = ""


def subtitle(config: RunConfig, state: RunState) -> str:
    """Return the line below the run's name: model, what it goes on from, data, rank, length, effective batch."""
    rows = say(", {training_rows:,} rows", training_rows=state.dataset.training_rows) if state.dataset else ""
    parts = (
        model_title(config.model.source),
        say("goes on from {words}", words=state.parent.words) if state.parent else "",
        config.data.path.replace("\\", "/").split("/")[-1] + rows,
        say("rank {rank}", rank=config.lora.rank),
        say("{max_length:,} tokens", max_length=config.training.max_length),
        say("effective batch {effective_batch}", effective_batch=config.effective_batch),
    )
    return " · ".join(part for part in parts if part)


def tiles(state: RunState, smoothed_loss: float | None, config: RunConfig | None, now: float) -> tuple[Tile, ...]:
    """Return the six figures of the Run page."""
    step = state.last_step
    return (
        Tile(say("Train loss"), loss_text(smoothed_loss), say("smoothed") if smoothed_loss is not None else ""),
        Tile(say("Evaluation loss"), loss_text(state.evaluation.loss if state.evaluation else None), _best(state)),
        _perplexity(state),
        Tile(
            say("Learning rate"),
            _rate(step.learning_rate) if step else "–",
            _SCHEDULES[config.training.scheduler] if config else "",
        ),
        Tile(
            say("Tokens/s"),
            f"{step.tokens_per_second:,.0f}" if step and step.tokens_per_second else "–",
            say("{seconds:.1f} s a step", seconds=step.seconds) if step and step.seconds else "",
        ),
        _time_left(state, now),
    )


def _rate(rate: float) -> str:
    return f"{rate:.1e}".replace("e-0", "e-") if rate else "0"


def _best(state: RunState) -> str:
    best = state.best_evaluation
    if best is None:
        return ""
    if state.evaluation is not None and best.step == state.evaluation.step:
        return say("best, step {step:,}", step=best.step)
    return say("best {loss}, step {step:,}", loss=loss_text(best.loss), step=best.step)


def _perplexity(state: RunState) -> Tile:
    now, first = state.evaluation, state.first_evaluation
    if now is None or now.perplexity is None:
        return Tile(say("Perplexity"))
    began = (
        say("from {perplexity}", perplexity=perplexity_text(first.perplexity))
        if first and first.perplexity and first is not now
        else ""
    )
    return Tile(say("Perplexity"), perplexity_text(now.perplexity), began)


def _time_left(state: RunState, now: float) -> Tile:
    if state.phase.is_over:
        took = state.last_event - state.started
        return (
            Tile(say("Time"), duration_text(took), phase_text(state).lower())
            if state.started
            else Tile(say("Time left"))
        )
    step = state.last_step
    if step is None or step.eta_seconds is None:
        return Tile(say("Time left"))
    return Tile(
        say("Time left"),
        duration_text(step.eta_seconds),
        say("ends {time}", time=time.strftime("%H:%M", time.localtime(now + step.eta_seconds))),
    )
