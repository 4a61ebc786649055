"""The Data page: it asks for files and rows by signals, and shows what a data job reports."""

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import (
    Check,
    DataReport,
    Neighbour,
    Rejection,
    RowCounts,
    RowPack,
    RowPreview,
    RowSummary,
    SourceReport,
    TokenPiece,
)
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed, PhaseChanged, Progressed, WorkerStarted
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.ui.data.page import DataPage

LEFT = Qt.MouseButton.LeftButton
ROWS = (
    RowSummary(number=0, line=1, verdict="ok", words="Where is my parcel?", tokens=40, trained=20, part="training"),
    RowSummary(number=1, line=2, verdict="rejected", words='{"messages": [', reason="not valid JSON"),
    RowSummary(number=2, line=3, verdict="repaired", words="<b>bold\u202e</b>", reason="cut", tokens=9, trained=4),
)
REPORT = DataReport(
    path="tickets.jsonl",
    format="messages",
    evidence={"messages": 3},
    columns=("messages",),
    size_bytes=4_300_000,
    rows=RowCounts(total=3, ok=1, repaired=1, rejected=1, training=2),
    rejections=(Rejection(number=1, line=2, offset=80, reason="not valid JSON"),),
    listing=ROWS,
    checks=(Check(name="end", title="Answers end", passed=True, message="2 of 2"),),
    verdicts_path="verdicts.jsonl",
)
CONFIG = RunConfig().with_value("data.path", "somewhere/tickets.jsonl").with_value("model.source", "starter")


def texts(page: DataPage) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


@pytest.fixture
def page(qapp: QApplication) -> DataPage:
    page = DataPage()
    page.resize(900, 800)
    page.show()
    return page


@pytest.fixture
def filled(page: DataPage) -> DataPage:
    page.render_config(CONFIG)
    page.render_report(REPORT)
    return page


def test_without_a_dataset_the_page_says_what_to_do_next(page: DataPage) -> None:
    assert page.source.isVisibleTo(page)
    assert "Drop a file here" in texts(page)
    assert not page.xray.isVisibleTo(page)
    assert not page.continue_button.isEnabled()


def test_several_files_become_the_datasets_and_more_are_added_where_one_is_being_added(page: DataPage) -> None:
    asked: list[dict[str, Any]] = []
    page.settings_requested.connect(asked.append)
    page.take(["a.jsonl", "b.csv"])
    page.render_config(CONFIG)
    page.add.click()
    page.take(["c.csv"])
    assert asked[0]["data.path"] == "a.jsonl"
    assert [[source["path"] for source in settings["data.more"]] for settings in asked] == [["b.csv"], ["c.csv"]]
    assert "data.path" not in asked[1]


def test_a_name_is_typed_and_the_starter_dataset_takes_one_click(page: DataPage) -> None:
    asked: list[object] = []
    page.settings_requested.connect(lambda settings: asked.append(settings["data.path"]))
    page.starter_requested.connect(lambda: asked.append("the starter"))
    QTest.keyClicks(page.source.path, "owner/name")
    QTest.keyClick(page.source.path, Qt.Key.Key_Return)
    QTest.mouseClick(page.source.starter, LEFT)
    assert asked == ["owner/name", "the starter"]


def test_a_report_is_shown_with_format_evidence_and_counts(filled: DataPage) -> None:
    assert not filled.source.isVisibleTo(filled)
    assert "3 rows · chat messages, found in all rows" in filled._subtitle.whole_text()
    assert filled.rows.pills["rejected"].text() == "rejected 1"
    assert "Answers end" in texts(filled) and "2 of 2" in texts(filled)
    assert filled.continue_button.isEnabled()


def test_rows_are_shown_while_others_are_still_read_and_nothing_is_said_of_the_whole(page: DataPage) -> None:
    page.render_config(CONFIG)
    page.render_report(REPORT.model_copy(update={"read": False, "complete": False, "format": "", "checks": ()}))
    assert page.rows.isVisibleTo(page)
    assert page.rows.model.rowCount() == 3
    assert page._subtitle.whole_text() == "3 rows so far"
    assert not page.continue_button.isEnabled()
    assert not page.reading.isChecked()


def test_rows_are_filtered_by_verdict_and_by_words(filled: DataPage) -> None:
    QTest.mouseClick(filled.rows.pills["rejected"], LEFT)
    assert [filled.rows.model.row(i).number for i in range(filled.rows.model.rowCount())] == [1]
    QTest.mouseClick(filled.rows.pills["all"], LEFT)
    QTest.keyClicks(filled.rows.search, "parcel")
    assert [filled.rows.model.row(i).number for i in range(filled.rows.model.rowCount())] == [0]


def test_text_of_a_dataset_is_never_taken_for_html_and_hides_nothing(filled: DataPage) -> None:
    assert filled.rows.model.index(2, 2).data() == "<b>bold‹RLO›</b>"
    assert "&lt;b&gt;" in filled.rows.model.index(2, 2).data(Qt.ItemDataRole.ToolTipRole)


def test_a_row_is_asked_for_by_its_button_its_number_and_its_line_in_the_table(filled: DataPage) -> None:
    asked: list[object] = []
    filled.row_requested.connect(asked.append)
    for button in (*filled.xray.picks.values(), filled.xray.rejected):
        QTest.mouseClick(button, LEFT)
    filled.xray.number.setValue(3)
    filled.rows.table.selectRow(2)
    assert asked == ["longest", "shortest", "random", 1, 2, 2]


def test_the_xray_shows_tokens_record_and_text(filled: DataPage) -> None:
    tokens = (TokenPiece(id=1, string="<s>", special=True), TokenPiece(id=7, string="Hi", trained=True))
    row = RowPreview(number=0, line=1, verdict="ok", raw='{"a": 1}', text="<s>Hi", tokens=tokens, part="training")
    filled.render_row(row)
    assert filled.xray.tokens.tokens() == tokens
    assert "2 tokens, 1 trained (50%) · in training" in texts(filled)
    filled.xray.more.click()
    assert filled.xray._raw.toPlainText() == '{"a": 1}'
    assert filled.xray._text.toPlainText() == "<s>Hi"


def test_a_rejected_row_is_shown_with_its_reason_and_its_record(filled: DataPage) -> None:
    row = RowPreview(number=1, line=2, verdict="rejected", raw='{"messages": [', reason="not valid JSON")
    filled.render_row(row)
    assert "Line 2 is rejected: not valid JSON." in texts(filled)
    assert filled.xray._raw.isVisibleTo(filled)


def test_a_dataset_that_would_be_refused_says_so_and_cannot_be_continued_with(filled: DataPage) -> None:
    filled.render_report(REPORT.model_copy(update={"refused": "No row has an answer."}))
    assert "No row has an answer." in texts(filled)
    assert not filled.continue_button.isEnabled()


def test_rows_that_are_read_are_shown_before_they_are_tokenized(page: DataPage) -> None:
    page.render_config(CONFIG)
    page.render_job(reading())
    page.render_report(REPORT.model_copy(update={"complete": False}))
    assert page.rows.isVisibleTo(page)
    assert not page.xray.isVisibleTo(page)
    assert page.stop.isVisibleTo(page)
    assert not page.continue_button.isEnabled()


def test_columns_that_are_not_known_are_mapped_by_the_user(page: DataPage) -> None:
    asked: list[dict[str, object]] = []
    page.settings_requested.connect(asked.append)
    page.render_config(CONFIG)
    page.render_report(REPORT.model_copy(update={"format": "", "columns": ("frage", "antwort")}))
    assert page.mapping.isVisibleTo(page)
    assert not page.mapping.use.isEnabled()
    for name, column in (("prompt", "frage"), ("completion", "antwort")):
        combo = page.mapping.parts[name]
        combo.setCurrentIndex(combo.findData(column))
        combo.activated.emit(combo.currentIndex())
    QTest.mouseClick(page.mapping.use, LEFT)
    mapping = {"prompt": "frage", "completion": "antwort"}
    assert asked == [{"data.format": "question_answer", "data.mapping": mapping}]


def test_found_columns_are_filled_in_with_why_and_nothing_of_the_file_before_stays(page: DataPage) -> None:
    for path, columns in (("a.csv", ("prompt", "answer")), ("b.csv", ("question", "response", "prompt"))):
        form = "question_answer"
        source = SourceReport(name=path, path=path, format=form, columns=columns, ok=2, evidence={form: 2})
        page.render_config(CONFIG.with_value("data.path", path))
        page.render_report(REPORT.model_copy(update={"format": form, "sources": (source,)}))
    page.reading.click()
    filled = {name: combo.value() for name, combo in page.mapping.parts.items() if combo.value()}
    assert filled == {"prompt": "question", "completion": "response"}
    assert "Read by the columns' names: question → prompt, response → answer." in texts(page)
    page.render_config(CONFIG.with_value("data.path", "b.csv").with_value("data.mapping", {"text": "prompt"}))
    assert "Read by the columns' names" not in texts(page)


def test_a_proposed_mapping_is_filled_in_and_asked_for_with_its_keys_and_roles(page: DataPage) -> None:
    asked: list[dict[str, object]] = []
    page.settings_requested.connect(asked.append)
    mapping = {"conversation": "chat", "role": "speaker", "assistant_role": "Agent 7"}
    source = SourceReport(
        name="tickets.jsonl",
        path="tickets.jsonl",
        rejected=3,
        columns=("id", "chat", "system"),
        unread={"chat[].mood": 2},
        proposed=mapping,
    )
    page.render_config(CONFIG)
    page.render_report(REPORT.model_copy(update={"format": "", "sources": (source,)}))
    assert page.mapping.parts["conversation"].value() == "chat"
    assert page.mapping.parts["system"].value() == ""
    assert page.mapping.keys.text() == "role = speaker; assistant_role = Agent 7"
    assert "chat → conversation" in texts(page) and "chat[].mood (2 rows)" in texts(page)
    QTest.mouseClick(page.mapping.use, LEFT)
    assert asked == [{"data.format": "messages", "data.mapping": mapping}]


def test_keys_and_roles_of_turns_are_typed_and_stay_until_the_file_is_read_so(page: DataPage) -> None:
    asked: list[dict[str, object]] = []
    page.settings_requested.connect(asked.append)
    page.render_config(CONFIG)
    page.render_report(REPORT.model_copy(update={"format": "", "columns": ("id", "chat")}))
    assert not page.mapping.keys.isVisibleTo(page)
    combo = page.mapping.parts["conversation"]
    combo.setCurrentIndex(combo.findData("chat"))
    combo.activated.emit(combo.currentIndex())
    QTest.keyClicks(page.mapping.keys, "speaker = role")
    assert not page.mapping.use.isEnabled()
    assert "Write role, content, system_role" in texts(page)
    page.mapping.keys.setText("role = who; content=says ; assistant_role = Bot, Agent 7")
    page.render_config(CONFIG.with_value("data.duplicates", "drop_near"))
    QTest.mouseClick(page.mapping.use, LEFT)
    mapping = {"conversation": "chat", "role": "who", "content": "says", "assistant_role": "Bot, Agent 7"}
    assert asked == [{"data.format": "messages", "data.mapping": mapping}]


def test_progress_is_shown_while_reading_and_a_failure_in_words(page: DataPage) -> None:
    stopped: list[bool] = []
    page.stop_requested.connect(lambda: stopped.append(True))
    page.render_config(CONFIG)
    page.render_job(reading())
    assert "1.0 MiB of 4.0 MiB" in texts(page)
    QTest.mouseClick(page.stop, LEFT)
    assert stopped == [True]
    again: list[bool] = []
    page.reading_requested.connect(lambda: again.append(True))
    page.render_stopped()
    assert "Stopped" in texts(page) and page.stop.text() == "Read again"
    QTest.mouseClick(page.stop, LEFT)
    assert again == [True] and stopped == [True]
    page.render_job(reading())
    assert page.stop.text() == "Stop"
    failed = Failed(
        kind=FailureKind.DATA_NOT_FOUND, message="There is no file tickets.jsonl.", advice="Choose another."
    )
    page.render_job(reduce(reading(), failed))
    assert "There is no file tickets.jsonl." in texts(page)
    assert not page.stop.isVisibleTo(page)


def test_a_page_that_knows_nothing_yet_says_that_the_rows_will_be_looked_through(page: DataPage) -> None:
    """Until its worker is there, seconds may pass, in which an empty page would say nothing."""
    page.render_awaited(True)
    assert "Starting …" in texts(page) and page.stop.isVisibleTo(page)
    page.render_job(RunState())
    assert "Starting …" in texts(page), "the worker has not said anything"
    page.render_job(reading())
    assert "Starting …" not in texts(page)
    page.render_awaited(False)
    assert page.stop.isVisibleTo(page), "the worker goes on"
    page.render_job(RunState())
    assert not page.stop.isVisibleTo(page)
    page.render_awaited(True)
    page.render_awaited(False)
    assert not page.stop.isVisibleTo(page), "the dataset is not asked for any more"


def test_the_report_is_offered_to_be_saved(filled: DataPage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    filled.save_requested.connect(asked.append)
    answer = ("report.jsonl", "")
    monkeypatch.setattr("qlora_studio.ui.data.rows.QFileDialog.getSaveFileName", lambda *_: answer)
    QTest.mouseClick(filled.rows.save, LEFT)
    assert asked == ["report.jsonl"]


def reading() -> RunState:
    state = RunState()
    started = WorkerStarted(job="data", studio="0", pid=1)
    progress = Progressed(what="rows", done=1 << 20, total=4 << 20, unit="bytes")
    for event in (started, PhaseChanged(phase="reading_data"), progress):
        state = reduce(state, event)
    return state


def test_the_xray_of_a_packed_row_shows_its_neighbours_and_says_which_they_are(filled: DataPage) -> None:
    own = (TokenPiece(id=7, string="Hi", trained=True),)
    other = (TokenPiece(id=8, string="Ho", trained=True, packed=True),) * 3
    pack = RowPack(
        number=1,
        packs=9,
        tokens=7,
        before=(Neighbour(number=4, tokens=other),),
        after=(Neighbour(number=6, tokens=other),),
    )
    filled.render_row(RowPreview(number=0, line=1, verdict="ok", text="Hi", tokens=own, part="training", pack=pack))
    assert [piece.string for piece in filled.xray.tokens.tokens()] == ["Ho"] * 3 + ["Hi"] + ["Ho"] * 3
    assert "In pack 2 of 9: with 2 other rows, 7 tokens" in texts(filled)
    assert filled.xray._neighbour.isVisibleTo(filled)
    filled.render_row(RowPreview(number=0, line=1, verdict="ok", text="Hi", tokens=own))
    assert not filled.xray._neighbour.isVisibleTo(filled)


def test_where_the_answers_cannot_be_told_the_full_text_is_trained_only_when_the_user_agrees(filled: DataPage) -> None:
    asked: list[dict[str, object]] = []
    filled.settings_requested.connect(asked.append)
    assert not filled.agree.isVisibleTo(filled)
    assert filled._report is not None
    filled.render_report(filled._report.model_copy(update={"supported": False, "refused": "It cannot be told."}))
    assert filled.agree.isVisibleTo(filled)
    filled.agree.click()
    assert asked == [{"training.loss_on": "all"}]


def listed(page: DataPage) -> list[int]:
    return [page.rows.model.row(line).number for line in range(page.rows.model.rowCount())]


def test_the_row_in_the_xray_is_left_out_by_hand_and_put_back(filled: DataPage) -> None:
    asked: list[dict[str, object]] = []
    filled.settings_requested.connect(asked.append)
    tokens = (TokenPiece(id=7, string="Hi", trained=True),)
    filled.render_row(RowPreview(number=0, line=1, verdict="ok", text="Hi", tokens=tokens, key="aa", part="training"))
    filled.xray.leave.click()
    filled.render_config(CONFIG.with_value("data.exclude", ["bb", "aa"]))
    assert "1 tokens, 1 trained (100%) · left out by hand" in texts(filled)
    filled.xray.leave.click()
    assert asked == [{"data.exclude": ["aa"]}, {"data.exclude": ["bb"]}]


def test_a_row_that_could_not_be_read_cannot_be_left_out_by_hand(filled: DataPage) -> None:
    filled.render_row(RowPreview(number=1, line=2, verdict="rejected", raw="{", reason="cut"))
    assert not filled.xray.leave.isVisibleTo(filled)
    filled.rows.table.selectRow(1)
    assert not filled.rows.leave.isEnabled()


def test_rows_left_out_by_hand_have_a_list_of_their_own_and_are_put_back_together(filled: DataPage) -> None:
    asked: list[dict[str, object]] = []
    filled.settings_requested.connect(asked.append)
    keyed = tuple(row.model_copy(update={"key": f"k{row.number}" if row.number != 1 else ""}) for row in ROWS)
    filled.render_report(REPORT.model_copy(update={"listing": keyed}))
    assert not filled.rows.pills["left out"].isVisibleTo(filled)
    filled.rows.table.selectAll()
    filled.rows.leave.click()
    assert asked == [{"data.exclude": ["k0", "k2"]}]
    filled.render_config(CONFIG.with_value("data.exclude", ["k0", "k2"]))
    assert filled.rows.pills["left out"].text() == "left out 2"
    filled.rows.pills["left out"].click()
    assert listed(filled) == [0, 2]
    assert filled.rows.model.index(0, 5).data() == "left out by hand"
    filled.rows.table.selectRow(0)
    assert filled.rows.leave.text() == "Put back"
    filled.rows.put_back.click()
    assert asked[-1] == {"data.exclude": []}
    filled.render_config(CONFIG)
    assert listed(filled) == [0, 1, 2]
    assert not filled.rows.put_back.isVisibleTo(filled)


def test_a_key_that_no_listed_row_has_can_be_put_back(filled: DataPage) -> None:
    filled.render_config(CONFIG.with_value("data.exclude", ["of another file"]))
    assert filled.rows.put_back.isVisibleTo(filled)


def test_the_xray_says_in_words_which_answers_are_not_learned(filled: DataPage) -> None:
    remark = "Answer 1 of 2 is not learned: the row marks it so."
    row = RowPreview(number=0, line=1, verdict="ok", text="Hi", tokens=(TokenPiece(id=7, string="Hi", trained=True),))
    filled.render_row(row.model_copy(update={"remarks": (remark,)}))
    assert remark in texts(filled)
    filled.render_row(row)
    assert not filled.xray._remarks.isVisibleTo(filled)
