"""The datasets on the Data page: added, weighed, removed, chosen among subsets, read in another encoding."""

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.data.report import (
    DataReport,
    RowCounts,
    RowPreview,
    RowSummary,
    SourceReport,
    SourcesReport,
    TokenPiece,
)
from qlora_studio.core.data.source_facts import EvaluationFacts
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed, WorkerStarted
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.ui.data.datasets_view import added, changed, fresh, removed
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.data.view import verdict_text, verdict_tone
from qlora_studio.ui.kit.fields import ComboBox

LEFT = Qt.MouseButton.LeftButton
MORE = {"path": "maker/set", "weight": 0.5, "mapping": {"text": "story"}}
CONFIG = from_mapping({"model": {"source": "starter"}, "data": {"path": "/d/chats.jsonl", "more": [MORE]}})
SOURCES = (
    SourceReport(name="chats.jsonl", path="/d/chats.jsonl", format="messages", ok=90, trained_tokens=750, dropped=4),
    SourceReport(
        name="maker/set",
        path="maker/set",
        format="text",
        weight=0.5,
        ok=40,
        not_drawn=20,
        seen=20,
        trained_tokens=250,
        commit="0123456789abcdef",
        columns=("story",),
        evidence={"text": 40},
        files=1,
        split="train",
        subsets={"default": ("train", "test")},
        readings={"utf-8": "caf\ufffd", "cp1252": "café"},
    ),
)
ROWS = (
    RowSummary(number=0, line=1, verdict="ok", words="one", dataset="chats.jsonl", part="training"),
    RowSummary(number=1, line=2, verdict="ok", words="two", dataset="maker/set", duplicate="near", original=0),
)
REPORT = DataReport(
    path="/d/chats.jsonl",
    format="messages",
    rows=RowCounts(total=130, ok=130, duplicates=3, near_duplicates=1, dropped=4, training=100, seen=120),
    sources=SOURCES,
    listing=ROWS,
)


@pytest.fixture
def page(qapp: QApplication) -> DataPage:
    page = DataPage()
    page.resize(900, 800)
    page.show()
    page.render_config(CONFIG)
    page.render_report(REPORT)
    return page


@pytest.fixture
def asked(page: DataPage) -> list[dict[str, Any]]:
    settings: list[dict[str, Any]] = []
    page.settings_requested.connect(settings.append)
    return settings


def choose(combo: ComboBox, words: str) -> None:
    combo.setCurrentIndex(combo.findText(words))
    combo.activated.emit(combo.currentIndex())


def texts(page: DataPage) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


def applied(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    for path, value in settings.items():
        config = config.with_value(path, value)
    return config


def test_each_dataset_stands_with_its_rows_its_weight_and_its_share_of_what_is_trained(page: DataPage) -> None:
    words = texts(page)
    assert "chat messages · 90 rows · 4 dropped as duplicates · 75% of what is trained" in words
    assert "20 not drawn · 20 rows an epoch · 25% of what is trained · commit 0123456" in words
    assert [line.weight.value() for line in page.datasets.lines] == [1.0, 0.5]
    assert "chats.jsonl and 1 more" in texts(page) and "3 exact, 1 near, 4 dropped" in words


def test_a_weight_a_removal_and_a_choice_are_asked_for(page: DataPage, asked: list[dict[str, Any]]) -> None:
    first, second = page.datasets.lines
    second.weight.setValue(2)
    QTest.mouseClick(first.remove, LEFT)
    page.datasets.duplicates.setCurrentIndex(2)
    page.datasets.duplicates.activated.emit(2)
    weighed, left, dropping = (applied(CONFIG, settings).data for settings in asked)
    assert (weighed.more[0].weight, weighed.more[0].mapping) == (2.0, {"text": "story"})
    assert (left.path, left.weight, left.mapping, left.more) == ("maker/set", 0.5, {"text": "story"}, [])
    assert dropping.duplicates == "drop_near"


def test_a_dataset_is_added_beside_the_others_and_a_changed_one_is_read_afresh(
    page: DataPage, asked: list[dict[str, Any]]
) -> None:
    for button in (page.add, page.change):
        QTest.mouseClick(button, LEFT)
        assert ("Add a dataset" in texts(page)) == (button is page.add)
        page.source.path.setText("/d/third.csv")
        QTest.mouseClick(page.source.use, LEFT)
    more, other = (applied(CONFIG, settings).data for settings in asked)
    assert [source.path for source in more.sources] == ["/d/chats.jsonl", "maker/set", "/d/third.csv"]
    assert [source.path for source in other.sources] == ["/d/third.csv", "maker/set"]


def test_a_new_dataset_keeps_nothing_of_how_the_old_one_was_read() -> None:
    config = from_mapping({"data": {"path": "a.csv", "mapping": {"text": "x"}, "encoding": "cp1252", "split": "dev"}})
    assert applied(config, fresh("b.jsonl")) == from_mapping({"data": {"path": "b.jsonl"}})
    back = applied(applied(config, added(config.data, "b.jsonl")), removed(config.data, 0))
    assert back.data.path == ""
    assert applied(config, changed(config.data, 0, weight=3.0)).data.weight == 3.0


def test_subset_and_split_are_a_question_and_no_error(page: DataPage, asked: list[dict[str, Any]]) -> None:
    page.render_report(None)
    page.render_config(from_mapping({"data": {"path": "maker/set"}}))
    open_ = SourceReport(name="maker/set", path="maker/set", subsets={"a": ("test",), "b": ("test", "train")})
    page.render_sources(SourcesReport(sources=(open_,)))
    failed = Failed(kind=FailureKind.DATA_CHOICE, message="maker/set has several subsets: a, b.", advice="--set …")
    page.render_job(reduce(reduce(RunState(), WorkerStarted(job="data", studio="1", pid=1)), failed))
    assert "Choose one below." in texts(page) and "--set" not in texts(page)
    line = page.datasets.lines[0]
    line.subset.setCurrentIndex(1)
    line.subset.activated.emit(1)
    assert line.split.value() == "train"
    assert asked == []
    QTest.mouseClick(line.use, LEFT)
    assert asked == [{"data.subset": "b", "data.split": "train"}]


def test_another_split_of_a_dataset_that_is_read_takes_one_choice(page: DataPage, asked: list[dict[str, Any]]) -> None:
    line = page.datasets.lines[1]
    assert not line.use.isVisibleTo(page)
    line.split.setCurrentIndex(1)
    line.split.activated.emit(1)
    assert applied(CONFIG, asked[0]).data.more[0].split == "test"


def test_each_dataset_is_read_in_its_own_way(page: DataPage, asked: list[dict[str, Any]]) -> None:
    QTest.mouseClick(page.reading, LEFT)
    page.mapping.dataset.setCurrentIndex(1)
    page.mapping.dataset.activated.emit(1)
    assert "All 40 rows: plain text." in texts(page)
    assert [label.whole_text() for label in page.mapping._readings][:2] == [
        "UTF-8 reads: caf‹U+FFFD›",
        "Windows-1252 reads: café",
    ]
    assert page.mapping.parts["text"].value() == "story"
    page.mapping.encoding.setCurrentIndex(2)
    page.mapping.encoding.activated.emit(2)
    assert applied(CONFIG, asked[0]).data.more[0].encoding == "cp1252"


def test_rows_that_repeat_another_are_found_by_a_filter(page: DataPage) -> None:
    assert page.rows.pills["duplicate"].text() == "duplicate 4"
    QTest.mouseClick(page.rows.pills["duplicate"], LEFT)
    assert page.rows.model.rowCount() == 1
    cells = [page.rows.model.index(0, column).data() for column in range(6)]
    assert cells[3:] == ["maker/set", "", "nearly repeats row 1"]


def test_the_xray_says_which_dataset_and_line_a_row_is_from_and_forgets_it_with_the_dataset(page: DataPage) -> None:
    piece = TokenPiece(id=1, string="Hi", trained=True)
    row = RowPreview(number=3, line=4, verdict="ok", tokens=(piece,), dataset="maker/set", file="a.parquet")
    page.render_row(row)
    assert "maker/set · a.parquet, line 4" in texts(page)
    page.render_report(None)
    page.render_row(None)
    assert page.xray.tokens.tokens() == ()


def test_an_evaluation_file_is_chosen_here_with_its_own_counts(
    page: DataPage, asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = str(tmp_path / "own.jsonl")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (own, ""))
    choose(page.datasets.evaluation, "A file…")
    page.render_config(applied(CONFIG, asked[0]))
    facts = EvaluationFacts(name="own.jsonl", path=own, ok=9, rejected=1, in_training=2, used=7)
    page.render_report(REPORT.model_copy(update={"evaluation": facts}))
    assert "7 of 10 rows · 1 rejected · 2 left out" in texts(page)
    assert page.datasets.evaluation.currentText() == "own.jsonl"
    choose(page.datasets.evaluation, "A share of the rows")
    assert applied(CONFIG, asked[1]).data.evaluation is None


def test_a_file_that_is_not_chosen_after_all_changes_nothing(
    page: DataPage, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    choose(page.datasets.evaluation, "A file…")
    assert asked == []
    assert page.datasets.evaluation.currentText() == "A share of the rows"


def test_another_split_of_the_dataset_can_be_held_out(page: DataPage, asked: list[dict[str, Any]]) -> None:
    page.render_config(from_mapping({"data": {"path": "maker/set"}}))
    page.render_report(REPORT.model_copy(update={"sources": (SOURCES[1].model_copy(update={"subset": "default"}),)}))
    choose(page.datasets.evaluation, "Split test")
    assert asked == [{"data.evaluation_path": "", "data.evaluation_split": "test"}]


def test_a_row_that_cannot_be_trained_is_told_as_left_out_whatever_its_verdict() -> None:
    row = RowSummary(number=0, line=1, verdict="repaired", reason="the template leaves out", part="left_out")
    assert (verdict_text(row), verdict_tone(row)) == ("left out: the template leaves out", "bad")
