"""Text of models, datasets and files is shown literally, wherever it is shown."""

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QLabel, QToolTip

from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.kit.question import Question
from qlora_studio.ui.kit.tables import Column, TableModel
from qlora_studio.ui.kit.text import ElidedLabel, Label, set_tooltip, show_tip
from qlora_studio.ui.kit.widgets import ErrorNotice
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.training.page import TrainingPage

EVIL = "<img src='file:///etc/passwd'><b>bold</b> <s>[INST]</s> & < >"


@pytest.mark.parametrize("kind", [Label, ElidedLabel])
def test_a_label_shows_tags_as_they_are(qapp: QApplication, kind: type[Label]) -> None:
    label = kind(EVIL)
    label.resize(2000, 30)
    assert label.textFormat() == Qt.TextFormat.PlainText
    assert label.text() == EVIL


def test_a_tooltip_shows_tags_as_they_are(qapp: QApplication) -> None:
    label = Label("x")
    set_tooltip(label, EVIL)
    assert _rendered(label.toolTip()) == EVIL
    assert "<img" not in label.toolTip()


def test_a_tip_that_tells_of_something_done_shows_tags_as_they_are(qapp: QApplication) -> None:
    label = Label("x")
    label.show()
    show_tip(label.mapToGlobal(QPoint()), f"Saved as {EVIL}", label)
    assert _rendered(QToolTip.text()) == f"Saved as {EVIL}"
    QToolTip.hideText()


def test_a_tooltip_of_a_table_shows_tags_as_they_are(qapp: QApplication) -> None:
    model = TableModel([Column("text", str)])
    model.set_rows([EVIL])
    index = model.index(0, 0)
    assert index.data() == EVIL
    assert _rendered(index.data(Qt.ItemDataRole.ToolTipRole)) == EVIL


def test_a_question_shows_tags_as_they_are(qapp: QApplication) -> None:
    box = Question(None, "t", EVIL, f"{EVIL} & more\nbelow", ())
    shown = [label for label in box.findChildren(QLabel) if label.text()]
    assert [label.text() for label in shown] == [EVIL, f"{EVIL} & more\nbelow"]
    assert {label.textFormat() for label in shown} == {Qt.TextFormat.PlainText}


def test_a_notice_shows_the_words_of_an_error_as_they_are(qapp: QApplication) -> None:
    notice = ErrorNotice()
    notice.show_error(ValueError(EVIL))
    assert notice.message.text() == EVIL


@pytest.mark.parametrize(
    "build", [ModelPage, DataPage, TrainingPage, RunPage, ExportPage, ChatPage, RunsPage, SettingsPage, GpuPanel]
)
def test_no_page_has_a_label_that_guesses_whether_its_text_is_html(qapp: QApplication, build: type) -> None:
    page = build()
    guessing = [label.text() for label in page.findChildren(QLabel) if label.textFormat() != Qt.TextFormat.PlainText]
    page.deleteLater()
    assert guessing == []


def _rendered(rich: str) -> str:
    document = QTextDocument()
    document.setHtml(rich)
    return document.toPlainText()
