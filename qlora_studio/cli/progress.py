"""A job's progress on stderr: one line that moves on a terminal, else a line now and then."""

import time
from types import TracebackType

from qlora_studio.cli.console import Console, has_character
from qlora_studio.core.quantity import bytes_text, count_text, counted, duration_text
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.reports import VerificationPlanned
from qlora_studio.core.run.run_state import RunState, phase_text

_BAR_CELLS = 24
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0
_BYTES = ("bytes", "B")


class Progress:
    """Shows states and events as they come. Use it as a context, so that the terminal's line is left clean."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.shows_progress
        self._drawn = 0.0
        self._phase = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.wipe()

    def tell(self, event: ev.Event) -> None:
        """Print what should stay to be read."""
        if text := event_text(event):
            self._console.say(text)

    def show(self, state: RunState) -> None:
        """Draw where the job stands, not too often."""
        now = time.monotonic()
        changed = state.activity != self._phase
        if state.phase.is_over or not (
            changed or now - self._drawn > (_REDRAW_SECONDS if self._live else _LINE_SECONDS)
        ):
            return
        self._phase, self._drawn = state.activity, now
        text = progress_line(state)
        if self._live:
            self._console.draw(text)
        elif not changed or state.phase not in (Phase.TRAINING, Phase.EVALUATING, Phase.SAVING):
            self._console.say(text)


def progress_line(state: RunState) -> str:
    """Return where a job stands, in one line."""
    title = phase_text(state)
    if state.phase is Phase.TRAINING and state.total_steps:
        return f"{title}  {bar(state.step, state.total_steps)}  {_training_facts(state)}"
    if state.progress is None:
        return title
    done, total, unit = state.progress.done, state.progress.total, state.progress.unit
    amount = _amount(done, unit)
    if total:
        amount = f"{amount if unit in _BYTES else f'{done:,}'} of {_amount(total, unit)}"
    return f"{title}  {bar(done, total)}  {amount}" if total else f"{title}  {amount}"


def bar(done: int, total: int) -> str:
    """Return a bar of fixed width."""
    filled = round(_BAR_CELLS * min(done, total) / total) if total else 0
    full, empty = "█░" if has_character("█") else "#."
    return full * filled + empty * (_BAR_CELLS - filled)


def event_text(event: ev.Event) -> str:
    """Return the line for an event that should stay to be read, or nothing."""
    match event:
        case ev.ModelLoaded():
            return (
                f"Model: {event.architecture}, {count_text(event.parameters)} parameters, "
                f"{count_text(event.trainable)} trainable, {event.quantization} on {event.device}"
            )
        case ev.DatasetPrepared():
            rejected = f", {event.rejected_rows:,} rejected" if event.rejected_rows else ""
            rejected += f", {event.excluded_rows:,} left out by hand" if event.excluded_rows else ""
            rows = counted(event.training_rows, "row")
            return (
                f"Data: {rows} to train on, {event.evaluation_rows:,} held out{rejected}, "
                f"{count_text(event.trained_tokens)} of {count_text(event.tokens)} tokens trained"
            )
        case ev.Evaluated():
            return f"Step {event.step}: held-out loss {_number(event.loss)}, perplexity {_number(event.perplexity)}"
        case ev.CheckpointSaved():
            return f"Step {event.step}: {event.name} is safe ({bytes_text(event.size_bytes)})"
        case ev.Resumed():
            return f"Going on from {event.checkpoint}"
        case ev.Recovering():
            return event.message
        case ev.StoppedEarly():
            return event.words
        case ev.Exported():
            return f"Exported {event.format}: {event.path} ({bytes_text(event.size_bytes)})"
        case VerificationPlanned(report=plan):
            return plan.words
        case ev.Warned():
            return f"Note: {event.message}"
        case _:
            return ""


def _training_facts(state: RunState) -> str:
    parts = [f"{state.step}/{state.total_steps}"]
    if (last := state.last_step) is not None:
        parts += [f"loss {_number(last.loss)}", f"{last.tokens_per_second:,.0f} tokens/s"]
        if last.eta_seconds is not None:
            parts.append(f"{duration_text(last.eta_seconds)} left")
    return "  ".join(parts)


def _amount(count: int, unit: str) -> str:
    return bytes_text(count) if unit in _BYTES else f"{count:,} {unit}".rstrip()


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"
