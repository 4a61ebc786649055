"""Series say the same however the events come, and forget what was taken again; thinned, every peak stays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.run.events import Evaluated, Event, Paused, Resumed, StepDone, StoppedEarly, WorkerStarted
from qlora_studio.core.run.metric_history import MetricHistory, decimated
from qlora_studio.core.run.run_state import RunState, fold, reduce

_EVENTS = st.one_of(
    st.builds(
        StepDone,
        step=st.integers(1, 9),
        total_steps=st.just(9),
        epoch=st.just(0.5),
        loss=st.one_of(st.none(), st.floats(0, 9)),
        learning_rate=st.just(1e-4),
        tokens=st.integers(0, 99),
        seconds=st.floats(0, 9),
    ),
    st.builds(Evaluated, step=st.integers(1, 9), loss=st.floats(0, 9), perplexity=st.none()),
    st.builds(Resumed, step=st.integers(0, 9), checkpoint=st.just("checkpoint-1")),
    st.builds(StoppedEarly, step=st.integers(1, 9), evaluations=st.just(3)),
    st.builds(WorkerStarted, job=st.just("train"), studio=st.just("0"), pid=st.just(1)),
    st.builds(Paused, step=st.integers(1, 9), checkpoint=st.just("checkpoint-1")),
)


@given(st.lists(_EVENTS, max_size=40), st.integers(0, 40))
def test_events_taken_together_say_what_they_say_one_by_one(events: list[Event], half: int) -> None:
    state, alone, together = RunState(), MetricHistory(), MetricHistory()
    for event in events:
        state = reduce(state, event)
        alone.extend([event])
    together.extend(events[:half])
    together.extend(events[half:])

    assert fold(fold(RunState(), events[:half]), events[half:]) == state
    for name, series in alone.steps.items():
        np.testing.assert_array_equal(together.steps[name].x, series.x)
        np.testing.assert_array_equal(together.steps[name].y, series.y)
    for name, series in alone.places.items():
        np.testing.assert_allclose(together.places[name].y, series.y)
    np.testing.assert_array_equal(together.evaluation.y, alone.evaluation.y)
    assert together.spikes == alone.spikes


def _step(step: int, **told: float) -> StepDone:
    fields = {"epoch": step / 10, "loss": 1.0, "learning_rate": 1e-4, "tokens": 100, "seconds": 1800.0, **told}
    return StepDone.model_validate({"step": step, "total_steps": 10, **fields})


def test_places_count_what_the_model_learned_from_and_a_step_taken_again_once() -> None:
    history = MetricHistory()
    history.extend([*map(_step, (1, 2, 3)), Resumed(step=1, checkpoint="checkpoint-1")])
    history.extend([_step(2, tokens=7), _step(3)])
    assert history.places["tokens"].y.tolist() == [100, 107, 207]
    assert history.places["hours"].y.tolist() == [0.5, 1.0, 1.5]
    assert history.places["epoch"].y.tolist() == [0.1, 0.2, 0.3]


def test_a_zero_of_what_is_never_zero_is_a_gap() -> None:
    history = MetricHistory()
    history.extend([_step(1), _step(2, tokens_per_second=5.0, loss=0.0)])
    np.testing.assert_array_equal(history.steps["tokens_per_second"].y, [np.nan, 5.0])
    assert history.steps["loss"].y.tolist() == [1.0, 0.0]


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=400), st.integers(2, 50))
def test_a_thinned_series_keeps_the_lowest_and_the_highest_of_each_stretch(values: list[float], points: int) -> None:
    x, y = np.arange(len(values), dtype=float), np.array(values, dtype=float)
    few_x, few_y = decimated(x, y, points)
    if len(values) <= points:
        assert len(few_x) == len(values)
        return
    assert len(few_x) <= 2 * points
    assert (np.diff(few_x) > 0).all()
    np.testing.assert_array_equal(few_y, y[few_x.astype(int)])
    size = -(-len(values) // (points // 2))
    for start in range(0, len(values), size):
        stretch = y[start : start + size]
        kept = few_y[(few_x >= start) & (few_x < start + size)]
        if np.isnan(stretch).all():
            assert np.isnan(kept).all()
            assert len(kept), "a stretch without values must stay a gap"
        else:
            assert set(kept) == {np.nanmin(stretch), np.nanmax(stretch)}


def test_all_that_a_step_tells_is_kept_over_one_row_of_steps() -> None:
    history = MetricHistory()
    for first in range(1, 2001, 100):
        history.extend(
            StepDone(step=step, total_steps=2000, epoch=0.5, loss=1.0, learning_rate=1e-4, tokens=1, seconds=1.0)
            for step in range(first, first + 100)
        )

    series = [*history.steps.values(), *history.places.values()]
    assert len(series) == 9
    assert all(np.shares_memory(one.x, series[0].x) for one in series)
    assert [one.x.tolist() for one in series] == [list(range(1, 2001))] * 9
