"""What happened to a run besides its steps, as marks on its curves: recoveries, pauses, lowered rates, early stopping,
spikes. Pure; no Qt."""

from dataclasses import dataclass

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Recovering
from qlora_studio.core.run.loss_spike import LossSpike
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say

_MOST_NAMED = 3
_ACCEPTED = {"base": say("other base model"), "data": say("other dataset")}


@dataclass(frozen=True)
class CurveMark:
    """A mark at a step: a short label for the curve, and a sentence for the table and the pointer."""

    step: int
    label: str
    words: str


def curve_marks(state: RunState) -> tuple[CurveMark, ...]:
    """Return what changed on the way, in the order of the steps; several at one step are one mark."""
    marks = [CurveMark(event.step, _recovery_label(event), event.message) for event in state.recoveries]
    marks += [CurveMark(step, say("paused"), say("Paused after step {step:,}.", step=step)) for step in state.pauses]
    marks += [
        CurveMark(step, say("went on"), say("Went on from step {step:,}.", step=step)) for step in _restarts(state)
    ]
    for rate in state.rates:
        words = say("The learning rate is {scale:g} times the set one.", scale=rate.scale)
        marks.append(CurveMark(rate.step, say("rate × {scale:g}", scale=rate.scale), words))
    for change in state.accepted:
        name = _ACCEPTED[change.what]
        marks.append(CurveMark(change.step, name, say("Gone on with an{name}.", name=name)))
    if (early := state.stopped_early) is not None:
        marks.append(CurveMark(early.step, say("stopped early"), early.words))
    joined: dict[int, CurveMark] = {}
    for mark in sorted(marks, key=lambda mark: mark.step):
        before = joined.get(mark.step)
        joined[mark.step] = mark if before is None else _join(before, mark)
    return tuple(joined.values())


def spike_words(spike: LossSpike) -> str:
    """Return why a step counts as a spike."""
    return say(
        "spike: {loss:.2f}, usual {usual:.2f}, {deviations:.0f} deviations above",
        loss=spike.loss,
        usual=spike.usual,
        deviations=spike.deviations,
    )


def spikes_sentence(history: MetricHistory) -> str:
    """Return what to know of the spikes, or nothing where there are none."""
    spikes = history.spikes
    if not spikes:
        return ""
    last = spikes[-1]
    if len(spikes) == 1:
        return say(
            "The loss spiked at step {step:,}: {loss:.2f} where {usual:.2f} was usual.",
            step=last.step,
            loss=last.loss,
            usual=last.usual,
        )
    named = ", ".join(f"{spike.step:,}" for spike in spikes[-_MOST_NAMED:])
    where = (
        say("at steps {named}", named=named)
        if len(spikes) <= _MOST_NAMED
        else say("{spikes} times, last at steps {named}", spikes=len(spikes), named=named)
    )
    return say(
        "The loss spiked {where}: up to {spikes:.2f} where {usual:.2f} is usual.",
        where=where,
        spikes=max(spike.loss for spike in spikes),
        usual=last.usual,
    )


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
    return (
        say("batch {batch_size}", batch_size=event.batch_size)
        if event.kind == FailureKind.OUT_OF_MEMORY
        else say("restarted")
    )


def _join(one: CurveMark, other: CurveMark) -> CurveMark:
    if one.label == other.label:
        return one
    return CurveMark(one.step, f"{one.label}, {other.label}", f"{one.words} {other.words}")
