"""What the plots of a run show follows from its events: values, marks with their words, and what x counts."""

import numpy as np
import pytest

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Evaluated, Event, Paused, RateLowered, Recovering, Resumed, StepDone
from qlora_studio.core.run.metric import METRICS
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.curves.smoothing import MovingAverage
from qlora_studio.ui.run.metric_plots import Source, is_known, metric_plots


def _step(step: int, **told: object) -> StepDone:
    fields: dict[str, object] = {"total_steps": 40, "epoch": step / 10, "loss": 3.0 - step / 100, "learning_rate": 1e-4}
    return StepDone.model_validate({"step": step, "tokens": 1000, "seconds": 360.0, **fields, **told})


def _events() -> list[Event]:
    return [
        Evaluated(step=0, loss=3.5, perplexity=None),
        *map(_step, range(1, 11)),
        Evaluated(step=10, loss=3.1, perplexity=None),
        Paused(step=10, checkpoint="checkpoint-10"),
        Resumed(step=10, checkpoint="checkpoint-10"),
        *map(_step, range(11, 16)),
        Recovering(
            kind=FailureKind.OUT_OF_MEMORY, message="Out of memory.", step=15, batch_size=1, gradient_accumulation=4
        ),
        Resumed(step=10, checkpoint="checkpoint-10"),
        RateLowered(step=10, scale=0.5),
        *map(_step, range(11, 21)),
    ]


def _plots(events: list[Event], *keys: str, over: str = "step", weight: float = 0.9) -> tuple[Plot, ...]:
    history = MetricHistory()
    history.extend(events)
    averages = {key: MovingAverage(weight) for key in METRICS}
    return metric_plots(keys, Source(history, fold(RunState(), events), (10,), over), averages)


def test_the_loss_has_its_average_and_the_held_out_loss_beside_it() -> None:
    (plot,) = _plots(_events(), "loss")
    train, held_out = plot.curves
    assert train.x.tolist() == list(range(1, 21))
    assert train.y[-1] == pytest.approx(2.8)
    assert train.smooth is not None and train.smooth[0] == pytest.approx(train.y[0])
    assert (held_out.x.tolist(), held_out.y.tolist()) == ([0, 10], [3.5, 3.1])
    assert plot.end == 40
    (plain,) = _plots(_events(), "loss", weight=0.0)
    assert plain.curves[0].smooth is None


@pytest.mark.parametrize(
    ("over", "last", "evaluated", "end"),
    [
        ("step", 20, [0, 10], 40),
        ("tokens", 20_000, [0, 10_000], 0),
        ("hours", 2.0, [0, 1.0], 0),
        ("epoch", 2, [0, 1], 4),
    ],
)
def test_curves_and_marks_are_drawn_over_steps_tokens_hours_or_epochs(
    over: str, last: float, evaluated: list[float], end: float
) -> None:
    (plot,) = _plots(_events(), "loss", over=over)
    assert plot.curves[0].x[-1] == pytest.approx(last)
    assert plot.curves[1].x.tolist() == pytest.approx(evaluated)
    assert plot.end == pytest.approx(end)
    (saved,) = [mark for mark in plot.marks if mark.shape == "triangle"]
    assert saved.x == pytest.approx(last / 2)
    assert plot.place is not None
    assert plot.place(last) == ("step 20 · epoch 2.00", "20,000 tokens · 2 h 0 min")


def test_what_happened_is_marked_with_its_words() -> None:
    (plot,) = _plots(_events(), "learning_rate")
    told = {mark.x: (mark.label, mark.words) for mark in plot.marks if mark.kind == "what changed"}
    assert told == {
        10: ("paused, rate × 0.5", "Paused after step 10. The learning rate is 0.5 times the set one."),
        15: ("batch 1", "Out of memory."),
    }
    assert [(mark.x, mark.label) for mark in plot.marks if mark.faint] == [(10, "epoch 1"), (20, "epoch 2")]


def test_a_run_that_went_on_after_it_had_failed_is_marked_there() -> None:
    events: list[Event] = [
        *map(_step, range(1, 11)),
        Resumed(step=8, checkpoint="checkpoint-8"),
        *map(_step, range(9, 12)),
    ]
    (plot,) = _plots(events, "learning_rate")
    assert [(mark.x, mark.label) for mark in plot.marks if mark.words] == [(8, "went on")]


def test_what_a_run_never_told_is_an_empty_plot_and_not_a_line_at_zero() -> None:
    memory, throughput = _plots(_events(), "process_bytes", "tokens_per_second")
    assert memory.is_empty and throughput.is_empty
    assert memory.nothing == "This run did not tell it."
    assert _plots([], "loss")[0].nothing == "The curve begins with the first step."


def test_an_old_run_that_told_no_tokens_is_drawn_over_steps() -> None:
    events: list[Event] = [_step(step, tokens=0, seconds=0.0) for step in range(1, 4)]
    history = MetricHistory()
    history.extend(events)
    assert {over: is_known(history, over) for over in ("step", "tokens", "hours", "epoch")} == {
        "step": True,
        "tokens": False,
        "hours": False,
        "epoch": True,
    }
    (plot,) = _plots(events, "loss", over="tokens")
    assert (plot.x_title, plot.curves[0].x.tolist()) == ("step", [1, 2, 3])
    assert plot.place is not None and plot.place(2) == ("step 2 · epoch 0.20",)


def test_memory_is_in_gib_of_the_card_where_the_run_had_one() -> None:
    (plot,) = _plots([_step(1, process_bytes=2 << 30, allocated_bytes=3 << 30)], "process_bytes")
    np.testing.assert_array_equal(plot.curves[0].y, [3.0])
