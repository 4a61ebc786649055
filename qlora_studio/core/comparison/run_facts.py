"""What there is to say of a run that is laid beside others: what came of it, what it took, its data and versions."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.data.source_facts import SourceFacts
from qlora_studio.core.quantity import JOULES_OF_KWH, bytes_text, count_text, duration_text, energy_text
from qlora_studio.core.run.events import DatasetPrepared, EnvironmentTold, ModelLoaded
from qlora_studio.core.words import say, say_count


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact of a run: what programs call it, its words, how it is found in a record and written down.

    Of those with `least_is_best` there is a best one.
    """

    path: str
    title: str
    value: Callable[[RunRecord], Any]
    text: Callable[[Any], str] = str
    tip: str = ""
    least_is_best: bool = False


def training_rows_hash(record: RunRecord) -> str | None:
    """Return what the training rows are by content, where a checkpoint says it."""
    return _rows_hash(record, say("the training rows"))


def evaluation_rows_hash(record: RunRecord) -> str | None:
    """Return what the held-out rows are by content, where a checkpoint says it."""
    return _rows_hash(record, say("the evaluation rows"))


def _rows_hash(record: RunRecord, name: str) -> str | None:
    found = record.made_from.data.files.get(name)
    return found if isinstance(found, str) else None


def _of_data(take: Callable[[DatasetPrepared], Any]) -> Callable[[RunRecord], Any]:
    return lambda record: take(record.state.dataset) if record.state.dataset else None


def _of_model(take: Callable[[ModelLoaded], Any]) -> Callable[[RunRecord], Any]:
    return lambda record: take(record.state.model) if record.state.model else None


def _of_environment(take: Callable[[EnvironmentTold], Any]) -> Callable[[RunRecord], Any]:
    return lambda record: take(record.state.environment) if record.state.environment else None


def _steps(record: RunRecord) -> tuple[int, int] | None:
    return (record.state.step, record.state.total_steps) if record.state.total_steps else None


def _standing(record: RunRecord) -> str:
    phase = record.state.phase
    return phase.words if phase.is_over else say("{words} when last told", words=phase.words)


def _best(record: RunRecord) -> float | None:
    best = record.state.best_evaluation
    return best.loss if best else None


def _best_step(record: RunRecord) -> int | None:
    best = record.state.best_evaluation
    return best.step if best else None


def _final(record: RunRecord) -> float | None:
    last = record.state.evaluation
    return last.loss if last else None


def _first(record: RunRecord) -> float | None:
    first = record.state.first_evaluation
    return first.loss if first and first.step == 0 else None


def _rate(record: RunRecord) -> float | None:
    last = record.curves.get("tokens_per_second")
    return record.tokens / hours / 3600 if last and len(last.hours) and (hours := float(last.hours[-1])) else None


def _source_text(sources: list[SourceFacts]) -> str:
    return ", ".join(f"{item.name}{f' at {item.commit[:8]}' if item.commit else ''}" for item in sources)


def _base_hash(record: RunRecord) -> str | None:
    files = record.made_from.base.files
    text = "".join(f"{name} {files[name]}" for name in sorted(files))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if files else None


def _loss_text(loss: float) -> str:
    """Return a loss with a figure more than elsewhere: runs that are compared are close to each other."""
    return f"{loss:.4f}" if abs(loss) < 10 else f"{loss:.2f}"


def _short(digest: str) -> str:
    return digest[:10]


RESULTS = (
    Fact(path="results.state", title=say("State"), value=_standing),
    Fact(
        path="results.steps",
        title=say("Steps"),
        value=_steps,
        text=lambda pair: say("{step:,} of {total:,}", step=pair[0], total=pair[1]),
    ),
    Fact(
        path="results.best_held_out_loss",
        title=say("Held-out loss, best"),
        value=_best,
        text=_loss_text,
        tip=say("The least of all evaluations."),
        least_is_best=True,
    ),
    Fact(path="results.best_step", title=say("… at step"), value=_best_step, text=lambda step: f"{step:,}"),
    Fact(
        path="results.held_out_loss",
        title=say("Held-out loss, last"),
        value=_final,
        text=_loss_text,
        tip=say("Of the newest evaluation."),
        least_is_best=True,
    ),
    Fact(path="results.held_out_loss_before", title=say("Held-out loss, before"), value=_first, text=_loss_text),
    Fact(
        path="results.train_loss",
        title=say("Training loss, last"),
        value=lambda record: record.train_loss,
        text=_loss_text,
        tip=say("The mean over the last fiftieth of the steps."),
    ),
)
COST = (
    Fact(
        path="cost.training_seconds",
        title=say("Training time"),
        value=lambda record: record.seconds or None,
        text=duration_text,
        tip=say("Steps, evaluations and checkpoints; pauses, loading and export are left out."),
    ),
    Fact(path="cost.tokens", title=say("Tokens read"), value=lambda record: record.tokens or None, text=count_text),
    Fact(
        path="cost.tokens_per_second",
        title=say("Tokens per second"),
        value=_rate,
        text=lambda rate: f"{rate:,.0f}",
    ),
    Fact(
        path="cost.energy_kwh",
        title=say("Energy of the card"),
        value=lambda record: None if record.energy_joules is None else record.energy_joules / JOULES_OF_KWH,
        text=lambda kwh: energy_text(kwh * JOULES_OF_KWH),
        tip=say(
            "What the graphics card took while it trained, by its own counter; older cards tell their power alone, "
            "which is added up."
        ),
    ),
    Fact(
        path="cost.peak_bytes",
        title=say("Card memory, most"),
        value=lambda record: record.peak_bytes or None,
        text=bytes_text,
        tip=say("The most that was allocated on the card."),
    ),
)
DATA = (
    Fact(
        path="data.sources", title=say("Datasets"), value=_of_data(lambda data: data.sources or None), text=_source_text
    ),
    Fact(
        path="data.training_rows",
        title=say("Training rows"),
        value=_of_data(lambda data: data.training_rows),
        text=lambda rows: say_count(rows, "{count:,} row", "{count:,} rows"),
    ),
    Fact(
        path="data.evaluation_rows",
        title=say("Held-out rows"),
        value=_of_data(lambda data: data.evaluation_rows),
        text=lambda rows: say_count(rows, "{count:,} row", "{count:,} rows"),
    ),
    Fact(path="data.tokens", title=say("Tokens per epoch"), value=_of_data(lambda data: data.tokens), text=count_text),
    Fact(
        path="data.trained_tokens",
        title=say("Tokens learned from"),
        value=_of_data(lambda data: data.trained_tokens),
        text=count_text,
    ),
    Fact(
        path="data.longest",
        title=say("Longest row"),
        value=_of_data(lambda data: data.longest),
        text=lambda tokens: say_count(tokens, "{count:,} token", "{count:,} tokens"),
    ),
    Fact(
        path="data.training_sha256",
        title=say("Training rows by content"),
        value=training_rows_hash,
        text=_short,
        tip=say("Runs that show the same here were trained on the same tokens."),
    ),
    Fact(
        path="data.evaluation_sha256",
        title=say("Held-out rows by content"),
        value=evaluation_rows_hash,
        text=_short,
        tip=say("Held-out losses can be compared where this is the same."),
    ),
)
VERSIONS = (
    Fact(path="versions.architecture", title=say("Model"), value=_of_model(lambda model: model.architecture or None)),
    Fact(
        path="versions.base_sha256",
        title=say("Model by content"),
        value=_base_hash,
        text=_short,
        tip=say("Runs that show the same here began from the same weights."),
    ),
    Fact(
        path="versions.trainable",
        title=say("Trained parameters"),
        value=_of_model(lambda model: model.trainable or None),
        text=count_text,
    ),
    Fact(path="versions.base", title=say("Base weights"), value=_of_model(lambda model: model.quantization or None)),
    Fact(path="versions.dtype", title=say("Computed in"), value=_of_model(lambda model: model.compute_dtype or None)),
    Fact(
        path="versions.optimizer",
        title=say("Optimizer in effect"),
        value=_of_model(lambda model: model.optimizer or None),
    ),
    Fact(path="versions.device", title=say("Device"), value=_of_model(lambda model: model.device or None)),
    Fact(
        path="versions.cards",
        title=say("Cards"),
        value=_of_environment(lambda told: told.cards or None),
        text=lambda cards: ", ".join(cards),
    ),
    Fact(path="versions.driver", title=say("Driver"), value=_of_environment(lambda told: told.driver or None)),
    Fact(path="versions.studio", title="QLoRA Studio", value=_of_environment(lambda told: told.studio or None)),
    Fact(
        path="versions.commit",
        title=say("Its commit"),
        value=_of_environment(lambda told: told.commit or None),
        text=lambda commit: commit[:10],
    ),
    Fact(path="versions.python", title=say("Python"), value=_of_environment(lambda told: told.python or None)),
    Fact(path="versions.system", title=say("System"), value=_of_environment(lambda told: told.system or None)),
)
