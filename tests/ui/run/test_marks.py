"""What happened on the way is marked on the curves, each mark with its reason, and told in the table behind them."""

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import ChangeAccepted, RateLowered, Recovering, StepDone, StoppedEarly
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.ui.run.marks import annotations, curve_marks, spikes_sentence


def _state() -> RunState:
    words = "Out of memory: the batch is halved to 1, accumulation doubled."
    state = RunState()
    for event in (
        Recovering(kind=FailureKind.OUT_OF_MEMORY, message=words, step=40, batch_size=1, gradient_accumulation=4),
        Recovering(
            kind=FailureKind.CARD_LOST, message="The card is gone.", step=60, batch_size=1, gradient_accumulation=4
        ),
        RateLowered(step=60, scale=0.5),
        ChangeAccepted(what="data", step=80, changes=["rows.jsonl has other content"]),
    ):
        state = reduce(state, event)
    return state


def _history(spikes: dict[int, float]) -> MetricHistory:
    history = MetricHistory()
    for step in range(1, 101):
        loss = spikes.get(step, 1.0 + 0.01 * (step % 5))
        history.extend([StepDone(step=step, total_steps=100, epoch=0.1, loss=loss, learning_rate=1e-4)])
    return history


def test_recoveries_rates_and_accepted_changes_are_marked_where_they_were() -> None:
    marks = [(mark.step, mark.label) for mark in curve_marks(_state())]
    assert marks == [(40, "batch 1"), (60, "restarted, rate × 0.5"), (80, "other dataset")]


def test_where_training_stopped_early_is_marked_with_the_reason() -> None:
    (mark,) = curve_marks(reduce(RunState(), StoppedEarly(step=90, evaluations=3)))
    assert (mark.step, mark.label) == (90, "stopped early")
    assert mark.words == "Stopped early: the held-out loss did not get better for 3 evaluations (step 90)."


def test_the_table_says_why() -> None:
    told = annotations(_state(), _history({50: 4.0}))
    assert told[40].startswith("Out of memory: the batch is halved to 1")
    assert told[50].startswith("spike: 4.00, usual 1.02")
    assert set(told) == {40, 50, 60, 80}


def test_spikes_are_told_in_a_sentence() -> None:
    assert spikes_sentence(_history({})) == ""
    assert spikes_sentence(_history({50: 4.0})) == "The loss spiked at step 50: 4.00 where 1.02 was usual."
    two = spikes_sentence(_history({50: 4.0, 70: 5.0}))
    assert two == "The loss spiked at steps 50, 70: up to 5.00 where 1.02 is usual."
    assert "4 times, last at steps 60, 70, 80" in spikes_sentence(_history({50: 4.0, 60: 4.0, 70: 5.0, 80: 3.0}))
