"""What the Run page and the status line say of a run, as values: tiles, findings, phases in words. Pure; no Qt."""

import time
from dataclasses import dataclass

from qlora_studio.core.quantity import duration_text, loss_text, perplexity_text
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_state import RunState, phase_text
from qlora_studio.core.run.titles import model_title


@dataclass(frozen=True)
class Tile:
    """A loss_text of the run: what, how much, a word about it."""

    title: str
    value: str = "–"
    note: str = ""


def subtitle(config: RunConfig, state: RunState) -> str:
    """Return the line below the run's name: model, what it goes on from, data, rank, length, effective batch."""
    rows = f", {state.dataset.training_rows:,} rows" if state.dataset else ""
    parts = (
        model_title(config.model.source),
        f"goes on from {state.parent.words}" if state.parent else "",
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
        Tile("Train loss", loss_text(smoothed_loss), "smoothed" if smoothed_loss is not None else ""),
        Tile("Evaluation loss", loss_text(state.evaluation.loss if state.evaluation else None), _best(state)),
        _perplexity(state),
        Tile(
            "Learning rate",
            f"{step.learning_rate:.1e}".replace("e-0", "e-") if step else "–",
            config.training.scheduler.replace("_", " ") if config else "",
        ),
        Tile("Throughput", rate, f"{step.seconds:.1f} s a step" if step and step.seconds else ""),
        _time_left(state, now),
    )


def _best(state: RunState) -> str:
    best = state.best_evaluation
    if best is None:
        return ""
    if state.evaluation is not None and best.step == state.evaluation.step:
        return f"best, step {best.step:,}"
    return f"best {loss_text(best.loss)}, step {best.step:,}"


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
