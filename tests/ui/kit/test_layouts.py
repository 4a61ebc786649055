"""Rows that break bear long words, and run from right to left where the window does."""

from itertools import pairwise

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.text import NumberLabel
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Button, column


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
