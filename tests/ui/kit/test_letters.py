"""Letters that press buttons and choose in menus: none twice, and each one works."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLineEdit, QMenu, QStyleOptionButton, QWidget

from qlora_studio.ui.kit.letters import AltKey, dealt, give_letters, marked, plain
from qlora_studio.ui.kit.widgets import Button, PrimaryButton

_ALT = Qt.KeyboardModifier.AltModifier


@pytest.mark.parametrize(
    ("words", "letters"),
    [
        (["Pause", "Stop and save", "More"], ["P", "S", "M"]),
        (["Start", "Stop", "Save"], ["S", "T", "A"]),
        (["Stop", "Stop and save"], ["S", "A"]),  # of a later word before any within one
        (["Öffnen", "ß", "…"], ["Ö", "", ""]),
        (["ab", "ba", "ab"], ["A", "B", ""]),
    ],
)
def test_each_word_gets_a_letter_of_its_own(words: list[str], letters: list[str]) -> None:
    assert dealt(words) == letters


@pytest.mark.parametrize(
    ("text", "letter", "shown"),
    [
        ("Stop and save", "A", "Stop &and save"),
        ("Merge & export", "E", "Merge && &export"),
        ("Pausing …", "X", "Pausing …"),
        ("R&D", "", "R&&D"),
    ],
)
def test_a_letter_is_marked_where_a_word_begins_with_it(text: str, letter: str, shown: str) -> None:
    assert marked(text, letter) == shown
    assert plain(shown) == text


def test_a_button_is_pressed_by_its_letter_and_keeps_it_while_its_words_change(qapp: QApplication) -> None:
    window, stop, start = QWidget(), Button("Stop"), PrimaryButton("Start")
    box = QHBoxLayout(window)
    box.addWidget(stop)
    box.addWidget(start)
    give_letters(window)
    stop.setText("Stopping …")
    give_letters(window)
    pressed: list[str] = []
    stop.clicked.connect(lambda: pressed.append(stop.text()))
    start.clicked.connect(lambda: pressed.append(start.text()))
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    for key in (Qt.Key.Key_S, Qt.Key.Key_T):  # what goes on with the work has the first choice
        QTest.keyClick(window, key, _ALT)
        QTest.qWait(150)
    window.close()
    assert pressed == ["Start", "Stopping …"]


def test_the_entries_of_a_menu_have_letters_when_it_opens(qapp: QApplication) -> None:
    window = QWidget()
    menu = QMenu(window)
    give_letters(window)
    for words in ("Delete …", "Duplicate", "R && D"):
        menu.addAction(words)
    menu.aboutToShow.emit()
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["&Delete …", "D&uplicate", "&R && D"]


def _painted(button: Button) -> str:
    option = QStyleOptionButton()
    button.initStyleOption(option)
    return option.text


def test_letters_are_seen_while_alt_is_down_whatever_has_the_focus_and_not_else(qapp: QApplication) -> None:
    window, other, button, field = QWidget(), QWidget(), Button("R&&D"), QLineEdit()
    box = QHBoxLayout(window)
    box.addWidget(button)
    box.addWidget(field)
    give_letters(window)
    key = AltKey(window)
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    field.setFocus()
    handle = window.windowHandle()
    assert _painted(button) == "R&&D"
    QTest.keyPress(handle, Qt.Key.Key_Alt)
    assert _painted(button) == "&R&&D"
    QTest.keyRelease(handle, Qt.Key.Key_Alt)
    assert _painted(button) == "R&&D"
    QTest.keyPress(handle, Qt.Key.Key_Alt)
    other.show()
    other.activateWindow()  # where Alt goes up
    assert QTest.qWaitForWindowActive(other)
    assert _painted(button) == "R&&D"
    key.watch(None)
    window.close()
    other.close()
