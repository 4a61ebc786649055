"""What the Training page computes while a form is filled: batches, steps and tokens. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport
from qlora_studio.core.memory.step_rate import StepRate
from qlora_studio.core.quantity import count_text, duration_text
from qlora_studio.core.words import say


@dataclass(frozen=True)
class TileView:
    """A tile: what, how much, and a word about it."""

    title: str
    value: str
    note: str = ""
    tone: str = ""


def steps_per_epoch(config: RunConfig, report: DataReport | None) -> int | None:
    """Return the optimizer steps of one pass over the training rows, None where the rows are not known."""
    rows = _sequences(config, report)
    if not rows:
        return None
    batches = math.ceil(rows / config.training.batch_size)
    return max(1, math.ceil(batches / config.training.gradient_accumulation))


def total_steps(config: RunConfig, report: DataReport | None) -> int | None:
    """Return the optimizer steps of the whole run, None where the rows are not known."""
    if config.training.max_steps:
        return config.training.max_steps
    per_epoch = steps_per_epoch(config, report)
    return None if per_epoch is None else math.ceil(config.training.epochs * per_epoch)


def with_preset(draft: RunConfig, preset: RunConfig) -> RunConfig:
    """Return the draft with a preset. One with a dataset is a whole project; else model, data and name stay."""
    kept: dict[str, object] = {"hardware": draft.hardware}
    if not preset.data.path:
        kept |= {"data": draft.data, "name": draft.name}
        kept |= {"model": draft.model} if draft.model.source else {}
    return preset.model_copy(update=kept)


def preset_of(draft: RunConfig, presets: Mapping[str, RunConfig], chosen: str = "") -> str:
    """Return the name of the preset that would change nothing of the draft but its name; empty where there is none.

    Of several, which differ in a model that the draft has not from them, it is the one that was `chosen`.
    """
    fitting = [
        name
        for name, preset in presets.items()
        if with_preset(draft, preset).model_copy(update={"name": draft.name}) == draft
    ]
    return chosen if chosen in fitting else next(iter(fitting), "")


def tiles(
    config: RunConfig, report: DataReport | None, rate: StepRate | None = None, *, reading: bool = False
) -> tuple[TileView, ...]:
    """Return the tiles above the form; `rate` is what is predicted for the card, where anything is.

    `report` is of just this config's rows; without one what needs it is a dash, for a moment where they are `reading`.
    """
    training = config.training
    batch = say(
        "{batch_size} × {gradient_accumulation} rows a step",
        batch_size=training.batch_size,
        gradient_accumulation=training.gradient_accumulation,
    )
    per_epoch, total = steps_per_epoch(config, report), total_steps(config, report)
    unknown = _unknown(config, reading=reading)
    return (
        TileView(say("Effective batch"), f"{config.effective_batch:,}", batch),
        TileView(
            say("Steps per epoch"),
            _count(per_epoch),
            say("{per_epoch:,} rows", per_epoch=report.rows.per_epoch) if report else unknown,
        ),
        TileView(say("Steps in all"), _count(total), _ends(config)),
        TileView(say("Evaluations"), _count(_evaluations(config, total)), _held_out(config, report)),
        TileView(say("Tokens to learn from"), *_tokens(report, per_epoch, total, unknown)),
        TileView(say("Training time"), *_time(config, report, rate, total)),
    )


def _unknown(config: RunConfig, *, reading: bool) -> str:
    """Return why nothing is known of the rows."""
    if not config.data.path:
        return say("choose a dataset first")
    if not config.model.source:
        return say("choose a model first")
    return say("being counted …") if reading else say("check the data first")


def _sequences(config: RunConfig, report: DataReport | None) -> int:
    if report is None:
        return 0
    return report.lengths.packs if config.training.packing and report.lengths else report.rows.per_epoch


def _ends(config: RunConfig) -> str:
    if config.training.max_steps:
        return say("as set in Steps")
    epochs = config.training.epochs
    return say("1 epoch") if epochs == 1 else say("{epochs:g} epochs", epochs=epochs)


def _evaluations(config: RunConfig, total: int | None) -> int | None:
    if total is None:
        return None
    if not config.data.evaluation_share and config.data.evaluation is None:
        return 0
    every = config.evaluation.every_steps
    return 2 + ((total - 1) // every if every else 0)


def _held_out(config: RunConfig, report: DataReport | None) -> str:
    if report and report.rows.evaluation:
        return say("of {evaluation:,} rows", evaluation=report.rows.evaluation)
    return (
        say("of {evaluation_share:.0%} of the rows", evaluation_share=config.data.evaluation_share)
        if config.data.evaluation_share
        else say("nothing is held out")
    )


def _tokens(report: DataReport | None, per_epoch: int | None, total: int | None, unknown: str) -> tuple[str, str]:
    lengths = report.lengths if report else None
    if lengths is None or not per_epoch or not total:
        return "–", unknown
    share = report.rows.training / max(1, lengths.rows) if report else 1.0  # of a report that knows no datasets
    known = sum(source.trained_tokens for source in report.sources) if report else 0
    trained = known or lengths.trained_tokens * min(1.0, share)
    return count_text(round(trained * total / per_epoch)), say(
        "{trained_share:.0%} of what is read", trained_share=lengths.trained_share
    )


def _time(config: RunConfig, report: DataReport | None, rate: StepRate | None, total: int | None) -> tuple[str, str]:
    """Return how long the steps and evaluations will take, and by which rate."""
    if rate is None:
        return "–", say("speed not known here")
    if total is None:
        return "–", rate.words
    measured = (_evaluations(config, total) or 0) * (report.rows.evaluation if report else 0)
    return f"≈ {duration_text(total * rate.seconds + measured * rate.row_seconds)}", rate.words


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
