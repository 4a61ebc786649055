"""What is known of a run at a moment: a pure function of its events. Metric series live in `metric_history`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.frozen import changed
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity, Phase, activity_words, phase_of
from qlora_studio.core.run.reports import AnyReported, Facts, NoFacts, Reported

T = TypeVar("T")
_MOST = 4000  # samples, warnings and the like that are kept


@dataclass(frozen=True)
class RunState:
    """The state of a run or of any other job."""

    phase: Phase = Phase.NEW
    activity: str = ""
    progress: ev.Progressed | None = None
    pid: int = 0
    started: float = 0.0
    last_event: float = 0.0
    training_over: bool = False  # the final adapter is saved: what comes now can be done again
    safe_since: float = 0.0  # by the clock of the events: when the newest checkpoint was safe, or the session began
    environment: ev.EnvironmentTold | None = None
    model: ev.ModelLoaded | None = None
    dataset: ev.DatasetPrepared | None = None
    step: int = 0
    total_steps: int = 0
    last_step: ev.StepDone | None = None
    evaluation: ev.Evaluated | None = None
    first_evaluation: ev.Evaluated | None = None
    best_evaluation: ev.Evaluated | None = None
    checkpoint: ev.CheckpointSaved | None = None
    adapter_path: str = ""
    samples: tuple[ev.SampleGenerated, ...] = ()
    exports: tuple[ev.Exported, ...] = ()
    reports: tuple[AnyReported, ...] = ()
    warnings: tuple[ev.Warned, ...] = ()
    resumptions: tuple[int, ...] = ()
    pauses: tuple[int, ...] = ()
    recoveries: tuple[ev.Recovering, ...] = ()
    rate_scale: float = 1.0
    rates: tuple[ev.RateLowered, ...] = ()
    accepted: tuple[ev.ChangeAccepted, ...] = ()
    parent: ev.AdapterContinued | None = None
    probe: ev.Probed | None = None
    memory: dict[str, ev.MemoryMeasured] = field(default_factory=dict)
    stopped_early: ev.StoppedEarly | None = None
    energy: float | None = 0.0  # joules; None once a session took steps and did not tell what the card took
    energy_before: float | None = 0.0  # of the sessions before this one
    elsewhere: ev.ElsewhereTold | None = None
    failure: ev.Failed | None = None
    facts: Facts = field(default_factory=NoFacts)

    @property
    def failure_kind(self) -> FailureKind | None:
        """How the session failed, in a word."""
        return self.failure.kind if self.failure else None


def reduce(state: RunState, event: ev.Event) -> RunState:
    """Return the state after `event`."""
    return changed(_told(state, event), last_event=_time(state, event))


def _told(state: RunState, event: ev.Event) -> RunState:
    """Return the state after `event`, but for the time of it."""
    match event:
        case ev.WorkerStarted():
            return changed(
                state,
                phase=Phase.STARTING,
                activity=Activity.LOADING_LIBRARIES,
                pid=event.pid,
                started=event.time,
                safe_since=event.time,
                training_over=False,
                energy_before=state.energy,
                failure=None,
                progress=None,
            )
        case ev.EnvironmentTold():
            return changed(state, environment=event)
        case ev.PhaseChanged():
            return changed(state, phase=phase_of(event.phase), activity=event.phase, progress=None)
        case ev.Progressed():
            return changed(state, progress=event)
        case ev.ModelLoaded():
            return changed(state, model=event)
        case ev.DatasetPrepared():
            return changed(state, dataset=event)
        case ev.TrainingStarted():
            return changed(state, step=event.step, total_steps=event.total_steps)
        case ev.StepDone():
            return changed(
                state,
                phase=Phase.TRAINING,
                activity=Activity.TRAINING,
                step=event.step,
                total_steps=event.total_steps,
                last_step=event,
                training_over=False,
                stopped_early=None,
                energy=_energy(state, event),
            )
        case ev.Evaluated():
            return _evaluated(state, event)
        case ev.SampleGenerated():
            return changed(state, samples=_with(state.samples, event))
        case ev.CheckpointSaved():
            return changed(state, checkpoint=event, safe_since=event.time)
        case ev.AdapterSaved():
            return changed(state, adapter_path=event.path, training_over=True)
        case ev.Exported():
            return changed(state, exports=_with(state.exports, event))
        case ev.Resumed():
            return changed(state, step=event.step, resumptions=_with(state.resumptions, event.step))
        case ev.Recovering():
            return changed(state, phase=Phase.RECOVERING, activity="", recoveries=_with(state.recoveries, event))
        case ev.RateLowered():
            return changed(state, rate_scale=event.scale, rates=_with(state.rates, event))
        case ev.ChangeAccepted():
            return changed(state, accepted=_with(state.accepted, event))
        case ev.AdapterContinued():
            return changed(state, parent=event)
        case ev.Probed():
            return changed(state, probe=event)
        case ev.MemoryMeasured():
            return _memory_measured(state, event)
        case ev.StoppedEarly():
            return changed(state, stopped_early=event)
        case Reported():
            return changed(state, reports=_with(state.reports, event))
        case ev.Warned():
            return _warned(state, event)
        case ev.ElsewhereTold():
            waits = event.standing in ("submitted", "waiting")
            return changed(state, elsewhere=event, phase=Phase.STARTING if waits else state.phase)
        case ev.TextGenerated():
            return state
        case ev.Paused() | ev.Finished() | ev.Failed():
            return _ended(state, event)
        case _:
            assert_never(event)


def fold(state: RunState, events: Iterable[ev.Event]) -> RunState:
    """Return the state after all of the events: what `reduce` says one by one, and some ten times as fast.

    A step replaces all that the step right before it said, so of many steps in a row the last alone is taken.
    """
    step: ev.StepDone | None = None
    last: ev.Event | None = None
    for event in events:
        if isinstance(event, ev.StepDone):
            step = last = event
            continue
        state, step = _told(state, step) if step else state, None
        if isinstance(event, ev.ElsewhereTold):
            state, last = reduce(changed(state, last_event=last.time) if last else state, event), None
        else:
            state, last = _told(state, event), event
    state = _told(state, step) if step else state
    return changed(state, last_event=last.time) if last else state


def _time(state: RunState, event: ev.Event) -> float:
    """Return when a run was heard of last, by its own clock: that it is over elsewhere may be told much later."""
    if not isinstance(event, ev.ElsewhereTold):
        return event.time
    return state.last_event if state.phase.is_over and state.last_event else event.time + event.clock_ahead


def work_at_risk(state: RunState, now: float) -> float:
    """Return the seconds of training that a crash would lose: since the newest safe checkpoint or the start.

    None are at risk where no worker trains: before the first step, and once the final adapter is saved. `now` is by the
    clock here, which may be another one than that of a run elsewhere.
    """
    if not is_at_risk(state):
        return 0.0
    ahead = state.elsewhere.clock_ahead if state.elsewhere else 0.0
    return max(0.0, now + ahead - state.safe_since)


def is_at_risk(state: RunState) -> bool:
    """Whether a crash would lose something that was trained."""
    over = state.training_over or state.phase.is_over or state.phase is Phase.EXPORTING
    return state.last_step is not None and not over


def phase_text(state: RunState) -> str:
    """Return what a worker does now, in words; where none is at work, how the run stands."""
    return activity_words(state.activity) or state.phase.words


def _with(items: tuple[T, ...], item: T) -> tuple[T, ...]:
    """Return the items with one more; of very many the newest, for each is looked at again and again."""
    return (*items[1 - _MOST :], item)


def _warned(state: RunState, event: ev.Warned) -> RunState:
    """Keep the warnings; of lines that could not be read the newest count."""
    known = state.warnings
    if event.kind == ev.UNREADABLE_LINES:
        known = tuple(warning for warning in known if warning.kind != event.kind)
    return changed(state, warnings=_with(known, event))


def _memory_measured(state: RunState, event: ev.MemoryMeasured) -> RunState:
    """Keep the most of each phase; a resumed session measures anew and may take less."""
    known = state.memory.get(event.phase)
    least = known.allocated_bytes if known else -1
    if event.allocated_bytes <= least or len(state.memory) >= _MOST:
        return state
    return changed(state, memory={**state.memory, event.phase: event})


def _energy(state: RunState, event: ev.StepDone | ev.Evaluated) -> float | None:
    """Return what the card took until an event that tells of its own session; None where one does not."""
    before, since = state.energy_before, event.energy_joules
    return None if before is None or since is None else before + since


def _evaluated(state: RunState, event: ev.Evaluated) -> RunState:
    best = state.best_evaluation
    if event.loss is not None and (best is None or best.loss is None or event.loss < best.loss):
        best = event
    return changed(
        state,
        evaluation=event,
        first_evaluation=state.first_evaluation or event,
        best_evaluation=best,
        energy=_energy(state, event),
    )


def _ended(state: RunState, event: ev.TerminalEvent) -> RunState:
    state = changed(state, activity="", progress=None, pid=0)
    match event:
        case ev.Paused():
            return changed(state, phase=Phase.PAUSED, step=event.step, pauses=_with(state.pauses, event.step))
        case ev.Finished():
            return changed(
                state, phase=Phase.STOPPED if event.status == "stopped" else Phase.FINISHED, facts=event.facts
            )
        case ev.Failed():
            by_user = event.kind == FailureKind.INTERRUPTED  # which is no fault
            return changed(state, phase=Phase.CANCELLED if by_user else Phase.FAILED, failure=event)
        case _:
            assert_never(event)
