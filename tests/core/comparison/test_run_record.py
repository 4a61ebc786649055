"""What a comparison takes of a run's events, in one pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.comparison.run_record import HELD_OUT, RunReading, RunRecord, centred_mean, thinned
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, Event, Resumed, StepDone, WorkerStarted
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.run_state import RunState, fold, reduce


def _step(step: int, *, loss: float | None = 1.0, seconds: float = 2.0, tokens: int = 10, peak: int = 0) -> StepDone:
    return StepDone(
        step=step,
        total_steps=100,
        epoch=0.1,
        loss=loss,
        learning_rate=1e-4,
        seconds=seconds,
        tokens=tokens,
        peak_bytes=peak,
    )


def _read(*events: Event) -> RunRecord:
    reading = RunReading()
    reading.extend(events)
    return reading.record("a", "/runs/a", RunConfig(), Fingerprints())


def test_steps_that_were_taken_again_count_as_time_and_not_as_progress() -> None:
    record = _read(
        *(_step(step) for step in range(1, 11)),
        CheckpointSaved(step=5, name="checkpoint-5", size_bytes=1, seconds=3.0),
        Resumed(step=5, checkpoint="checkpoint-5"),
        *(_step(step) for step in range(6, 9)),
        Evaluated(step=8, loss=0.5, perplexity=None, seconds=4.0),
    )

    assert record.curves["loss"].step.tolist() == list(range(1, 9))
    assert record.tokens == 80
    assert record.seconds == 13 * 2.0 + 3.0 + 4.0
    assert record.curves[HELD_OUT].step.tolist() == [8]
    assert record.curves[HELD_OUT].tokens.tolist() == [80]
    assert record.curves[HELD_OUT].hours[0] == pytest.approx(16 / 3600)


def test_of_a_version_that_told_no_seconds_of_a_step_no_training_time_is_told() -> None:
    record = _read(_step(1, seconds=0.0), Evaluated(step=1, loss=0.5, perplexity=None, seconds=4.0))

    assert record.seconds == 0.0


def test_a_long_run_keeps_few_points_and_each_extreme() -> None:
    losses = np.ones(60_000)
    losses[31_234] = 9.0
    record = _read(*(_step(n + 1, loss=loss) for n, loss in enumerate(losses.tolist())))

    curve = record.curves["loss"]
    assert len(curve.step) <= 2100
    assert curve.raw.max() == 9.0
    assert curve.step[curve.raw.argmax()] == 31_235
    assert curve.smooth is not None and len(curve.smooth) == len(curve.raw)


def test_the_last_training_loss_is_a_mean_and_the_peak_the_largest() -> None:
    steps = [_step(n, loss=5.0, peak=n) for n in range(1, 99)] + [_step(99, loss=1.0), _step(100, loss=None)]
    record = _read(*steps)

    assert record.train_loss == 1.0  # of the last two, one of them no number
    assert record.peak_bytes == 98


def test_a_run_without_steps_has_curves_without_points() -> None:
    record = _read()

    assert all(len(curve.step) == 0 for curve in record.curves.values())
    assert record.train_loss is None


@given(st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan"))), max_size=60), st.integers(1, 20))
def test_a_smoothed_point_is_the_mean_of_as_many_before_as_behind(values: list[float], width: int) -> None:
    found = centred_mean(np.array(values, dtype=np.float64), width)

    for place, mean in enumerate(found.tolist()):
        reach = min(place, len(values) - 1 - place, width // 2)
        known = [value for value in values[place - reach : place + reach + 1] if value == value]
        if known:
            assert mean == pytest.approx(sum(known) / len(known), abs=1e-9)
        else:
            assert mean != mean


@given(st.lists(st.one_of(st.floats(-9, 9), st.just(float("nan"))), max_size=300), st.integers(4, 40))
def test_thinned_values_keep_their_order_both_ends_and_the_extremes(values: list[float], points: int) -> None:
    kept = thinned(np.array(values, dtype=np.float64), points).tolist()

    assert kept == sorted(set(kept))
    assert len(kept) <= max(points + 2, 0) or len(values) <= points
    if values:
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
        known = [value for value in values if value == value]
        left = [values[index] for index in kept if values[index] == values[index]]
        assert not known or (min(left), max(left)) == (min(known), max(known))


def _energy(*told: float | None) -> list[Event]:
    """Return a session whose steps tell this much each, and an evaluation that tells the last."""
    steps = [_step(step + 1).model_copy(update={"energy_joules": joules}) for step, joules in enumerate(told)]
    return [
        WorkerStarted(job="train", studio="1", pid=1),
        *steps,
        Evaluated(step=len(told), loss=0.5, perplexity=None, energy_joules=told[-1]),
    ]


def test_what_the_card_took_is_added_up_over_sessions_steps_that_were_taken_again_included() -> None:
    record = _read(*_energy(40.0, 90.0), *_energy(10.0, 30.0))

    assert record.energy_joules == 120.0


@pytest.mark.parametrize(
    "events",
    [_energy(None, None), [*_energy(None), *_energy(40.0)], [*_energy(40.0), *_energy(None)], []],
    ids=["never", "not at first", "not at last", "no step"],
)
def test_energy_that_a_session_did_not_tell_is_not_told(events: list[Event]) -> None:
    assert _read(*events).energy_joules is None


def test_a_question_that_the_card_did_not_answer_once_is_made_up_for_by_the_next_answer() -> None:
    assert _read(*_energy(40.0, None, 90.0)).energy_joules == 90.0


def test_many_steps_at_once_and_one_by_one_come_to_the_same_energy() -> None:
    events = [*_energy(40.0, 90.0, 95.0), *_energy(10.0)]
    one_by_one = RunState()
    for event in events:
        one_by_one = reduce(one_by_one, event)

    assert fold(RunState(), events).energy == one_by_one.energy == 105.0
