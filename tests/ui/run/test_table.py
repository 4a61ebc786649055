"""The numbers behind the curves follow the table of metrics."""

import pytest

from qlora_studio.core.run.events import Evaluated, StepDone
from qlora_studio.core.run.metric import METRICS, Metric, step_fields
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.ui.run.table import MetricRows, metric_columns


def _history() -> MetricHistory:
    history = MetricHistory()
    step = StepDone(step=1, total_steps=2, epoch=0.5, loss=1.5, learning_rate=2e-4, tokens_per_second=2000, seconds=4.0)
    for event in (step, step.model_copy(update={"step": 2}), Evaluated(step=2, loss=1.25, perplexity=3.5)):
        history.extend([event])
    return history


def _texts(index: int) -> list[str]:
    row = MetricRows(_history(), {2: "gone on"})[index]
    return [column.text(row) for column in metric_columns()]


def test_the_table_has_the_step_every_metric_and_what_happened() -> None:
    titles = [column.title for column in metric_columns()]
    metrics = ["train loss", "evaluation loss", "learning rate", "gradient norm", "tokens/s", "memory (GiB)"]
    assert titles == ["step", *metrics, "what happened"]
    assert _texts(0) == ["1", "1.500", "–", "2.000e-4", "–", "2,000", "–", ""]
    assert _texts(1) == ["2", "1.500", "1.250", "2.000e-4", "–", "2,000", "–", "gone on"]


def test_every_metric_is_a_number_that_a_step_tells() -> None:
    assert {*step_fields()} <= {*StepDone.model_fields}


def test_a_new_metric_arrives_by_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = Metric(field="seconds", title="Time", color="ok", column="minutes", unit="min", scale=60.0)
    monkeypatch.setitem(METRICS, "seconds", metric)
    assert _history().steps["seconds"].y.tolist() == [4.0, 4.0]
    assert metric_columns()[-2].title == "minutes"
    assert _texts(0)[-2:] == ["0.06667", ""]
