"""Rows that break bear long words, and run from right to left where the window does."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.layouts import FlowRow, still
from qlora_studio.ui.kit.text import Label, NumberLabel
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Button, Card, column
from tests.ui.states.layout_faults import faults_of


def test_a_row_within_a_row_breaks_where_its_words_are_longer_than_the_line(qapp: QApplication) -> None:
    window, buttons = QWidget(), [Button("an entry with many words") for _ in range(4)]
    column(window).addWidget(FlowRow(FlowRow(*buttons), FlowRow(Button("more"))))
    wide = buttons[0].sizeHint().width()
    window.resize(2 * wide + 20, 300)
    window.show()
    qapp.processEvents()
    ends = [button.mapTo(window, button.rect().topRight()) for button in buttons]
    window.close()
    assert all(end.x() < window.width() for end in ends)
    assert [end.y() for end in ends[:2]] == [ends[0].y()] * 2 and ends[2].y() > ends[0].y()


def test_a_row_breaks_anew_when_a_word_in_it_becomes_longer(qapp: QApplication) -> None:
    window, first, second = QWidget(), Button("a"), Button("b")
    column(window).addWidget(FlowRow(FlowRow(first, second)))
    window.resize(300, 200)
    window.show()
    qapp.processEvents()
    assert first.y() == second.y()
    second.setText("a word that leaves no room for another one")
    qapp.processEvents()
    assert second.y() > first.y()
    second.setText("b")
    qapp.processEvents()
    assert first.y() == second.y()


@pytest.mark.parametrize("within", [False, True], ids=["plain", "still"])
def test_what_is_filled_while_it_is_kept_still_is_laid_out_once_and_as_ever(qapp: QApplication, within: bool) -> None:
    window, labels, last = QWidget(), [Label("a line") for _ in range(20)], _Moved()
    box = column(window)
    for widget in (*labels, last):
        box.addWidget(widget)
    for label in labels:
        label.hide()
    window.resize(300, 800)
    window.show()
    qapp.processEvents()
    last.moves = 0
    with still(window) if within else nullcontext():
        for label in labels:
            label.show()
    qapp.processEvents()
    places = [label.y() for label in labels]
    assert places == sorted(set(places)) and last.y() > places[-1]
    assert last.moves == 1 if within else last.moves > 1


class _Moved(QWidget):
    moves = 0

    def moveEvent(self, event: object) -> None:
        self.moves += 1


def test_a_row_runs_from_right_to_left_where_the_window_does(qapp: QApplication) -> None:
    window, first, second = QWidget(), Button("first"), Button("second")
    window.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    column(window).addWidget(FlowRow(first, second))
    window.resize(400, 60)
    window.show()
    qapp.processEvents()
    window.close()
    assert first.geometry().right() == 399 and second.geometry().right() < first.geometry().left()


def _columns(image: QImage, color: str) -> list[int]:
    """Return the columns of a picture in which something of a colour is."""
    across = range(image.width())
    return [x for x in across if any(image.pixelColor(x, y).name() == color for y in range(image.height()))]


@pytest.mark.parametrize("direction", [Qt.LayoutDirection.LeftToRight, Qt.LayoutDirection.RightToLeft])
def test_progress_begins_where_lines_of_text_do(qapp: QApplication, direction: Qt.LayoutDirection) -> None:
    line = ProgressLine("Progress")
    line.setLayoutDirection(direction)
    line.resize(200, 6)
    line.show_share(0.25)
    done = _columns(line.grab().toImage(), active_theme().accent)
    middle = sum(done) / len(done)
    assert middle < 60 if direction == Qt.LayoutDirection.LeftToRight else middle > 140


def test_a_number_stands_before_its_unit_at_the_side_where_lines_begin(qapp: QApplication) -> None:
    seen = []
    for direction in (Qt.LayoutDirection.LeftToRight, Qt.LayoutDirection.RightToLeft):
        label = NumberLabel("35 min")
        label.setLayoutDirection(direction)
        label.resize(200, 24)
        image = label.grab().toImage()
        paper = image.pixelColor(100, 1).name()
        inked = [x for x in range(200) if any(image.pixelColor(x, y).name() != paper for y in range(24))]
        space = max(pairwise(inked), key=lambda pair: pair[1] - pair[0])
        seen.append((inked[0], (space[0] - inked[0]) / (inked[-1] - inked[0])))
    (left, before), (right, before_too) = seen
    assert left < 20 and right > 100
    assert before == pytest.approx(before_too, abs=0.05) and before < 0.45, "two figures, then a longer word"


def test_what_is_shown_and_grows_while_a_part_keeps_still_has_its_room_afterwards(qapp: QApplication) -> None:
    page, card = QWidget(), Card("Rows")
    pills = [Button(name, "pill") for name in ("all", "ok", "rejected")]
    flow = FlowRow(*pills)
    card.header.insertWidget(1, flow)
    pills[2].hide()
    column(page).addWidget(card)
    page.resize(600, 200)
    page.show()
    qapp.processEvents()
    card.hide()
    pills[2].setVisible(True)  # where nobody sees it
    qapp.processEvents()
    with still(page):
        card.show()
    qapp.processEvents()
    qapp.processEvents()
    assert list(faults_of(page)) == []
    assert pills[2].geometry().right() <= flow.width()
    page.close()
