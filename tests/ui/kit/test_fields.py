"""Input fields: a scroll changes nothing, numbers are written briefly and read back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QFocusEvent, QKeySequence, QShortcut, QValidator, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.fields import ComboBox, LineEdit, NumberBox, SpinBox, number_text
from qlora_studio.ui.kit.widgets import column


def scroll(widget: QWidget) -> QWheelEvent:
    down = QPoint(0, -120)
    nothing = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(QPointF(5, 5), QPointF(5, 5), down, down, *nothing, False)
    QApplication.sendEvent(widget, event)
    return event


def test_the_wheel_over_a_field_changes_nothing_and_is_left_to_the_page(qapp: QApplication) -> None:
    number, whole, choice = NumberBox(0, 10), SpinBox(0, 10), ComboBox({"a": "A", "b": "B"})
    number.setValue(5)
    whole.setValue(5)
    form = QWidget()
    box = column(form)
    for field in (number, whole, choice):
        box.addWidget(field)
    form.show()
    form.activateWindow()
    for field in (number, whole, choice):
        field.setFocus()
        qapp.processEvents()
        assert field.hasFocus(), "the one that was clicked last, too"
        assert not scroll(field).isAccepted()
    assert (number.value(), whole.value(), choice.value()) == (5, 5, "a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-4, "2e-4"),
        (0.05, "0.05"),
        (1000.0, "1000"),
        (0.0, "0"),
        (1.5e-5, "1.5e-5"),
        (0.3, "0.3"),
        (float("nan"), "nan"),  # typed, and refused
        (float("-inf"), "-inf"),
    ],
)
def test_a_number_is_written_as_briefly_as_it_can_be(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(min_value=0, max_value=1e6, allow_nan=False).map(lambda value: float(f"{value:.6g}")))
def test_a_number_that_is_written_is_read_back_the_same(value: float) -> None:
    assert float(number_text(value)) == pytest.approx(value, rel=1e-9)


def test_a_number_field_takes_what_python_reads_as_a_number(qapp: QApplication) -> None:
    field = NumberBox(0.0, 1.0)
    assert field.validate("2e-4", 0)[0] == QValidator.State.Acceptable
    assert field.validate("2e", 0)[0] == QValidator.State.Intermediate
    assert field.validate("two", 0)[0] == QValidator.State.Invalid
    assert field.validate("0,5", 0)[0] == QValidator.State.Invalid
    field.lineEdit().setText("3e-5")
    field.interpretText()
    assert field.value() == pytest.approx(3e-5)


def test_a_choice_is_told_by_its_value_and_only_when_the_user_makes_it(qapp: QApplication) -> None:
    field = ComboBox({"nf4": "4-bit NF4", "none": "16-bit"})
    told: list[str] = []
    field.chosen.connect(told.append)
    field.set_value("none")
    assert told == []
    field.activated.emit(field.currentIndex())
    assert told == ["none"]


def test_a_line_tells_what_was_typed_or_came_into_it_however_the_focus_goes(qapp: QApplication) -> None:
    told: list[str] = []
    line = LineEdit()
    line.told.connect(lambda: told.append(line.text()))
    line.show_text("a")
    for reason in (
        Qt.FocusReason.PopupFocusReason,
        Qt.FocusReason.ActiveWindowFocusReason,
        Qt.FocusReason.TabFocusReason,
    ):
        line.end(False)
        QApplication.sendEvent(line, QFocusEvent(QEvent.Type.FocusOut, reason))
        assert told == [], "that is what was shown"
        line.show()
        line.activateWindow()
        line.setFocus()
        qapp.processEvents()
        line.insert("b")
        assert told == [], "it is being typed"
        QApplication.sendEvent(line, QFocusEvent(QEvent.Type.FocusOut, reason))
        assert told == [line.text()]
        told.clear()
        line.clearFocus()
    QTest.keyClicks(line, "cd")  # of a window that is not active
    assert told == []
    qapp.processEvents()
    assert told == ["abbbcd"]
    told.clear()
    line.insert("/dropped")
    assert told == ["abbbcd/dropped"]
    line.setText("shown")
    assert told == ["abbbcd/dropped"]


@pytest.mark.parametrize(("kind", "value"), [(SpinBox, 512), (NumberBox, 512.0)])
def test_a_number_that_comes_without_the_focus_is_told_at_once(
    qapp: QApplication, kind: type[SpinBox | NumberBox], value: float
) -> None:
    field, told = kind(0, 999), list[float]()
    field.valueChanged.connect(told.append)
    field.show_value(5)
    field.lineEdit().setCursorPosition(1)
    field.lineEdit().insert("12")
    assert told == [value]
    field.lineEdit().insert("file:///home/me/rows.csv")
    assert (told, field.value()) == ([value], value)
    assert field.lineEdit().text().startswith("512")


def test_escape_lets_go_to_what_was_shown_or_told_last_and_no_further(qapp: QApplication) -> None:
    line = LineEdit()
    line.show_text("shown")
    for key in ("a", "b"):
        QTest.keyClicks(line, key)
        QTest.keyClick(line, Qt.Key.Key_Return)
        QTest.keyClicks(line, "x")
        QTest.keyClick(line, Qt.Key.Key_Escape)
        assert line.text().endswith(key), "what was told may have been refused: nobody shows it again"
    QTest.keyClicks(line, "x")
    line.put_text("chosen")
    assert not line.is_being_typed()
    QTest.keyClicks(line, "x")
    QTest.keyClick(line, Qt.Key.Key_Escape)
    assert line.text() == "chosen"


@pytest.mark.parametrize("kind", [LineEdit, SpinBox, NumberBox])
def test_escape_is_the_fields_while_something_is_typed_and_the_pages_else(
    qapp: QApplication, kind: type[LineEdit | SpinBox | NumberBox]
) -> None:
    page, field, pressed = QWidget(), kind(), list[bool]()
    column(page).addWidget(field)
    QShortcut(QKeySequence(Qt.Key.Key_Escape), page, lambda: pressed.append(True))
    page.show()
    page.activateWindow()
    assert QTest.qWaitForWindowActive(page)
    field.setFocus()
    before = field.text()
    QTest.keyClicks(field, "7")
    assert field.is_being_typed()
    QTest.keyClick(page.windowHandle(), Qt.Key.Key_Escape)
    assert (field.text(), pressed) == (before, [])
    QTest.keyClick(page.windowHandle(), Qt.Key.Key_Escape)
    assert pressed == [True]
