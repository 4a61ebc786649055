"""The plots of a run as values: curves and marks of each metric, over steps, tokens, hours or epochs. Pure; no Qt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qlora_studio.core.quantity import count_text, duration_text
from qlora_studio.core.run.metric import METRICS, Metric
from qlora_studio.core.run.metric_history import Floats, MetricHistory
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.ui.curves.curve import Curve, Mark, Plot
from qlora_studio.ui.curves.smoothing import MovingAverage
from qlora_studio.ui.run.marks import curve_marks, spike_words

STEP = "step"
X_TITLES = {STEP: say("step"), "tokens": say("tokens"), "hours": say("hours of training"), "epoch": say("epoch")}
_MAX_EPOCH_LINES = 20
_NOT_BEGUN, _NOT_TOLD = say("The curve begins with the first step."), say("This run did not tell it.")
Steps = Callable[[Floats], Floats]  # which become places on the x axis
Averages = dict[str, MovingAverage]


@dataclass(frozen=True)
class Source:
    """What is known of a run, and over what its curves are drawn: `over` is a key of X_TITLES."""

    history: MetricHistory
    state: RunState
    checkpoints: tuple[int, ...] = ()
    over: str = STEP


def is_known(history: MetricHistory, over: str) -> bool:
    """Return whether a run told enough to be drawn over something else than steps."""
    places = history.places.get(over)
    return over == STEP or (places is not None and len(places) > 0 and float(places.y[-1]) > 0)


def metric_plots(keys: Sequence[str], source: Source, averages: Averages, *, log: bool = False) -> tuple[Plot, ...]:
    """Return a plot for each metric. An average of weight 0 is not drawn."""
    over = source.over if is_known(source.history, source.over) else STEP
    place = _place(source.history, over)
    return tuple(_plot(METRICS[key], source, averages[key], log, over, place) for key in keys)


def _plot(
    metric: Metric,
    source: Source,
    average: MovingAverage,
    log: bool,
    over: str,
    place: Callable[[float], tuple[str, ...]],
) -> Plot:
    history = source.history
    at = _positions(history, over)
    marks = _event_marks(source, at) + (_loss_marks(source, at) if metric.loss else ())
    return Plot(
        title=metric.title,
        curves=_curves(metric, history, average, over, at),
        unit=metric.unit,
        marks=marks + (_epoch_marks(source.state, history, at) if over != "epoch" else ()),
        end=_end(source, over),
        log=log and metric.loss,
        x_title=X_TITLES[over],
        whole=over in (STEP, "tokens"),
        nothing=_NOT_TOLD if len(history.steps["loss"]) else _NOT_BEGUN,
        place=place,
    )


def _curves(metric: Metric, history: MetricHistory, average: MovingAverage, over: str, at: Steps) -> tuple[Curve, ...]:
    series = history.of(metric)
    smooth = average.of(series) / metric.scale if metric.smooth and average.weight else None
    name = say("train") if metric.loss else metric.title.lower()
    x = series.x if over == STEP else history.places[over].y  # which has the same steps
    values = Curve(name, x, series.y / metric.scale, metric.color, smooth=smooth)
    if not metric.loss or not len(history.evaluation):
        return (values,)
    held_out = history.evaluation
    return values, Curve(say("evaluation"), at(held_out.x), held_out.y, "logits", "dash", rings=True)


def _event_marks(source: Source, at: Steps) -> tuple[Mark, ...]:
    marks = curve_marks(source.state)
    places = at(np.array([mark.step for mark in marks], dtype=float))
    return tuple(
        Mark(float(x), mark.words, label=mark.label, kind=say("what changed"))
        for mark, x in zip(marks, places, strict=True)
    )


def _loss_marks(source: Source, at: Steps) -> tuple[Mark, ...]:
    spikes, checkpoints = source.history.spikes, source.checkpoints
    tops = zip(at(np.array([spike.step for spike in spikes], dtype=float)), spikes, strict=True)
    feet = zip(at(np.array(checkpoints, dtype=float)), checkpoints, strict=True)
    saved = [
        Mark(
            float(x),
            say("Checkpoint saved at step {step:,}.", step=step),
            "triangle",
            kind=say("checkpoint"),
            token="ok",
        )
        for x, step in feet
    ]
    return (
        *saved,
        *(Mark(float(x), spike_words(s), "diamond", kind=say("spike"), token="bad", y=s.loss) for x, s in tops),
    )


def _epoch_marks(state: RunState, history: MetricHistory, at: Steps) -> tuple[Mark, ...]:
    """Return a line where each epoch ends, as long as they are few."""
    epochs = history.places["epoch"]
    if not len(epochs) or not 1 <= epochs.y[-1] < _MAX_EPOCH_LINES + 1:
        return ()
    numbers = np.arange(1.0, int(epochs.y[-1] + 1e-6) + 1)
    steps = np.interp(numbers, epochs.y, epochs.x)
    return tuple(
        Mark(float(x), "", label=say("epoch {number:.0f}", number=number), token="muted", faint=True)
        for number, x in zip(numbers, at(steps), strict=True)
    )


def _positions(history: MetricHistory, over: str) -> Steps:
    """Return how a step becomes an x; the run begins at 0."""
    if over == STEP:
        return lambda steps: steps
    places = history.places[over]
    known, values = np.concatenate([[0.0], places.x]), np.concatenate([[0.0], places.y])
    return lambda steps: np.interp(steps, known, values)


def _end(source: Source, over: str) -> float:
    """Return where the run will end, where that is known."""
    total, last = source.state.total_steps, source.state.last_step
    if over == "epoch" and last is not None and last.step:
        return last.epoch * total / last.step
    return float(total) if over == STEP else 0.0


def _place(history: MetricHistory, over: str) -> Callable[[float], tuple[str, ...]]:
    """Return how an x is told: by its step, and whatever else is known of it."""
    places, steps = {name: series.y for name, series in history.places.items()}, history.places["epoch"].x
    xs = steps if over == STEP else places[over]

    def lines(x: float) -> tuple[str, ...]:
        index = int(np.searchsorted(xs, x, "right")) - 1
        if index < 0:
            return (say("step 0"),)
        step, epoch, tokens, hours = steps[index], *(places[name][index] for name in ("epoch", "tokens", "hours"))
        first = [say("step {step:,.0f}", step=step), say("epoch {epoch:.2f}", epoch=epoch) if epoch else ""]
        second = [
            say("{tokens} tokens", tokens=count_text(tokens)) if tokens else "",
            duration_text(3600 * hours) if hours else "",
        ]
        return tuple(" · ".join(filter(None, parts)) for parts in (first, second) if any(parts))

    return lines
