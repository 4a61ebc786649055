"""Clocks jump: by hand, by the network, after a sleep. What is told of a run stays sensible."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import CheckpointSaved, ElsewhereTold, Event, Finished, StepDone, WorkerStarted
from qlora_studio.core.run.run_state import RunState, fold, reduce, work_at_risk
from qlora_studio.ui.run.view import tiles
from qlora_studio.ui.state.progress import risk_text

HOUR = 3600.0
NOW = 1_800_000_000.0


def _state(*events: Event) -> RunState:
    state = RunState()
    for event in events:
        state = reduce(state, event)
    return state


def _step(step: int, time: float) -> StepDone:
    return StepDone(step=step, total_steps=100, epoch=0.1, loss=1.0, learning_rate=1e-4, eta_seconds=60.0, time=time)


def _saved(step: int, time: float) -> CheckpointSaved:
    return CheckpointSaved(step=step, name=f"checkpoint-{step}", size_bytes=1, seconds=0.1, time=time)


STARTED = WorkerStarted(job="train", studio="0", pid=1, time=NOW)


@pytest.mark.parametrize("jump", [-10 * HOUR, -1.0, 0.0, 10 * HOUR])
def test_work_at_risk_is_never_negative_and_counts_again_from_the_next_checkpoint(jump: float) -> None:
    state = _state(STARTED, _step(1, NOW + 5 + jump), _saved(1, NOW + 6))
    assert work_at_risk(state, NOW + 7 + jump) >= 0
    after = reduce(state, _saved(2, NOW + 20 + jump))
    assert work_at_risk(after, NOW + 50 + jump) == pytest.approx(30)
    assert "30 s of work at risk" in risk_text(after, NOW + 50 + jump)


def test_a_session_after_a_jump_backwards_does_not_count_from_a_checkpoint_of_the_future() -> None:
    state = _state(STARTED, _step(1, NOW), _saved(1, NOW))
    state = reduce(state, STARTED.model_copy(update={"time": NOW - 10 * HOUR}))
    state = reduce(state, _step(2, NOW - 10 * HOUR + 60))
    assert work_at_risk(state, NOW - 10 * HOUR + 91) == pytest.approx(91)


@pytest.mark.parametrize("jump", [-10 * HOUR, 10 * HOUR])
def test_the_tiles_name_a_time_left_that_no_jump_changes(jump: float) -> None:
    state = _state(STARTED, _step(1, NOW + 5))
    told = {tile.title: tile.value for tile in tiles(state, 1.0, RunConfig(), NOW + jump)}
    assert told["Time left"] == "1 min"


@pytest.mark.parametrize("ahead", [-10 * HOUR, 0.0, 10 * HOUR])
def test_a_run_elsewhere_is_told_by_its_own_clock_whatever_that_of_this_computer_says(ahead: float) -> None:
    """The mirror tells by the clock here, and of the end perhaps a day later: the laptop slept."""
    there = NOW + ahead
    told = ElsewhereTold(place="c", standing="running", clock_ahead=ahead, time=NOW + 1)
    events: list[Event] = [STARTED.model_copy(update={"time": there}), told, _step(1, there + 5), _saved(1, there + 6)]
    assert "30 s of work at risk" in risk_text(_state(*events), NOW + 36)
    over = told.model_copy(update={"standing": "over", "time": NOW + 24 * HOUR})
    events += [_step(2, there + 50), Finished(time=there + 60), over]
    took = {tile.title: tile.value for tile in tiles(_state(*events), 1.0, RunConfig(), NOW + 25 * HOUR)}
    assert took["Time"] == "1 min"
    assert fold(RunState(), events) == _state(*events)
