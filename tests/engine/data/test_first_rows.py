"""The first rows of a dataset are told while the rest is read."""

import json
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.reports import DatasetReported
from qlora_studio.engine.context import QuietReporter
from qlora_studio.engine.data import first_rows
from qlora_studio.engine.data.first_rows import FirstRows
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import open_dataset


class Heard(QuietReporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_rows_of_the_first_file_are_told_before_the_second_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_rows, "_SECONDS", 0.0)
    for name in "ab":
        rows = [json.dumps({"prompt": f"What is {name}{n}?", "completion": "It is."}) for n in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*rows, "{half"]) + "\n")
    data = DatasetMixture([open_dataset(DatasetSource(path=str(tmp_path / f"{name}.jsonl"))) for name in "ab"])
    heard = Heard()
    first = FirstRows(RunConfig(), data.names, heard)

    data.surveys(progress=lambda _done, _total: first.tell(), seen=first.see)

    reports = [event.report for event in heard.events if isinstance(event, DatasetReported)]
    early = reports[0]
    assert not early.read and not early.complete
    assert (early.rows.total, early.rows.ok, early.rows.rejected) == (61, 60, 1)
    assert [row.words for row in early.listing[:2]] == ["What is a0?", "What is a1?"]
    assert early.listing[60].verdict == "rejected" and early.listing[60].words.startswith("{half")
    assert len(first.rows) == 100
    assert (first.rows[-1].number, first.rows[-1].words, first.rows[-1].dataset) == (99, "What is b38?", "b.jsonl")


def test_a_dataset_that_is_read_at_once_needs_no_report_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "short"}) + "\n")
    data, heard = DatasetMixture([open_dataset(DatasetSource(path=str(tmp_path / "a.jsonl")))]), Heard()
    first = FirstRows(RunConfig(), data.names, heard)

    data.surveys(progress=lambda _done, _total: first.tell(), seen=first.see)

    assert not heard.events
    assert [row.words for row in first.rows] == ["short"]
