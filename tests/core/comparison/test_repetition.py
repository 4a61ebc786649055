"""How long a run would train with other settings, by how long it took."""

from dataclasses import replace

import pytest

from qlora_studio.core.comparison.repetition import expected_seconds
from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.core.run.run_state import RunState

CONFIG = RunConfig().with_value("training.epochs", 2.0)  # 16 rows a step
DATASET = DatasetPrepared(
    training_rows=800, evaluation_rows=10, rejected_rows=0, tokens=80_000, trained_tokens=1, longest=512
)
RECORD = RunRecord(
    "a", "/a", CONFIG, RunState(step=100, total_steps=100, dataset=DATASET), seconds=320.0, tokens=160_000
)


@pytest.mark.parametrize(
    ("path", "value", "seconds"),
    [
        ("lora.rank", 64, 320.0),
        ("training.learning_rate", 1e-4, 320.0),
        ("training.epochs", 3.0, 480.0),
        ("training.batch_size", 4, 320.0),  # fewer steps, as many rows
        ("training.max_steps", 50, 160.0),
        ("training.max_length", 512, None),
        ("model.source", "other", None),
        ("data.path", "other.jsonl", None),
        ("lora.dora", True, None),
        ("training.gradient_checkpointing", "on", None),
    ],
)
def test_time_goes_by_rows_and_is_not_told_where_the_pace_would_be_another(
    path: str, value: object, seconds: float | None
) -> None:
    assert expected_seconds(CONFIG.with_value(path, value), RECORD) == seconds


def test_a_run_that_trained_nothing_tells_no_time() -> None:
    assert expected_seconds(CONFIG, replace(RECORD, seconds=0.0)) is None
    assert expected_seconds(CONFIG, replace(RECORD, state=RunState())) is None
    unknown = replace(RECORD, state=replace(RECORD.state, dataset=None))
    assert expected_seconds(CONFIG, unknown) is None
    assert expected_seconds(CONFIG.with_value("training.max_steps", 50), unknown) == 160.0
