"""What happened to a run besides its steps, as marks on its curves: recoveries, pauses, lowered rates, early stopping,
spikes. Pure; no Qt."""

from dataclasses import dataclass

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Recovering
from qlora_studio.core.run.loss_spike import LossSpike
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState

_MOST_NAMED = 3
_ACCEPTED = {"base": "other base model", "data": "other dataset"}


@dataclass(frozen=True)
class CurveMark:
    """A mark at a step: a short label for the curve, and a sentence for the table and the pointer."""

    step: int
    label: str
    words: str


def curve_marks(state: RunState) -> tuple[CurveMark, ...]:
    """Return what changed on the way, in the order of the steps; several at one step are one mark."""
    marks = [CurveMark(event.step, _recovery_label(event), event.message) for event in state.recoveries]
    marks += [CurveMark(step, "paused", f"Paused after step {step:,}.") for step in state.pauses]
    marks += [CurveMark(step, "went on", f"Went on from step {step:,}.") for step in _restarts(state)]
    for rate in state.rates:
        words = f"The learning rate is {rate.scale:g} times the set one."
        marks.append(CurveMark(rate.step, f"rate × {rate.scale:g}", words))
    for change in state.accepted:
        name = _ACCEPTED[change.what]
        marks.append(CurveMark(change.step, name, f"Gone on with an{name}."))
    if (early := state.stopped_early) is not None:
        marks.append(CurveMark(early.step, "stopped early", early.words))
    joined: dict[int, CurveMark] = {}
    for mark in sorted(marks, key=lambda mark: mark.step):
        before = joined.get(mark.step)
        joined[mark.step] = mark if before is None else _join(before, mark)
    return tuple(joined.values())


def spike_words(spike: LossSpike) -> str:
    """Return why a step counts as a spike."""
    return f"spike: {spike.loss:.2f}, usual {spike.usual:.2f}, {spike.deviations:.0f} deviations above"


def spikes_sentence(history: MetricHistory) -> str:
    """Return what to know of the spikes, or nothing where there are none."""
    spikes = history.spikes
    if not spikes:
        return ""
    last = spikes[-1]
    if len(spikes) == 1:
        return f"The loss spiked at step {last.step:,}: {last.loss:.2f} where {last.usual:.2f} was usual."
    named = ", ".join(f"{spike.step:,}" for spike in spikes[-_MOST_NAMED:])
    where = f"at steps {named}" if len(spikes) <= _MOST_NAMED else f"{len(spikes)} times, last at steps {named}"
    return f"The loss spiked {where}: up to {max(spike.loss for spike in spikes):.2f} where {last.usual:.2f} is usual."


def annotations(state: RunState, history: MetricHistory) -> dict[int, str]:
    """Return by step what is to be told beside its numbers."""
    told = {mark.step: mark.words for mark in curve_marks(state)}
    for spike in history.spikes:
        told[spike.step] = "; ".join(filter(None, (told.get(spike.step, ""), spike_words(spike))))
    return told


def _restarts(state: RunState) -> list[int]:
    """Return where the run was gone on with after it had ended unasked, and not by its own recovery."""
    told = {*state.pauses} | {event.step for event in state.recoveries}
    return [step for step in state.resumptions if step not in told and not any(step <= other for other in told)]


def _recovery_label(event: Recovering) -> str:
    return f"batch {event.batch_size}" if event.kind == FailureKind.OUT_OF_MEMORY else "restarted"


def _join(one: CurveMark, other: CurveMark) -> CurveMark:
    if one.label == other.label:
        return one
    return CurveMark(one.step, f"{one.label}, {other.label}", f"{one.words} {other.words}")
