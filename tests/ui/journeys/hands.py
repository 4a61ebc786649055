"""Two ways to use the window, which do the same: by mouse (and typing), and by the keyboard alone.

Neither calls anything of the program: events of mouse and keys go to the window that has the focus, as a desktop sends
them. What is looked for is found by the name that a screen reader reads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QRect, Qt, QTimer
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QMenu,
    QTableView,
    QWidget,
)

from tests.ui.window_driver import Person

_KEY, _NONE, _CONTROL = Qt.Key, Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier
_LOOK_MILLISECONDS = 20
_MOST_LOOKS = 500
_MOST_TABS = 300


class Hands(Person):
    """What both can do; `Mouse` and `Keys` say how."""

    def push(self, name: str) -> None:
        """Push a button of the open page."""
        raise NotImplementedError

    def put(self, name: str, text: str) -> None:
        """Replace what stands in a field of the open page."""
        raise NotImplementedError

    def choose(self, name: str, words: str) -> None:
        """Choose an entry of a combo box of the open page."""
        raise NotImplementedError

    def take_from_menu(self, name: str, words: str) -> None:
        """Open the menu of a button of the open page, and take an entry."""
        raise NotImplementedError

    def select_rows(self, name: str, count: int) -> None:
        """Select the first rows of a table."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Push the main button of the open page."""
        raise NotImplementedError

    def open_file(self, name: str, path: Path) -> None:
        """Push a button that asks for a file, and write the path into the dialog."""
        self._when_asked(lambda dialog: _type_path(dialog, path))
        self.push(name)

    def _come_back(self) -> None:
        """Give the window the focus again where a menu or dialog has gone with it, as every desktop does."""
        if QGuiApplication.focusWindow() is None:
            self.window.activateWindow()
            self.wait(self.window.isActiveWindow, "the window to come to the front", 10)

    def _wait_for(self, name: str) -> None:
        self._come_back()
        self.wait(lambda: self.sees(name, QWidget), f"{name!r}")

    def _when_asked(self, answer: Callable[[QWidget], None]) -> None:
        """Answer the next dialog, which has an event loop of its own, once it has the focus; else leave it by force."""
        timer = QTimer(self.window)
        timer.setInterval(_LOOK_MILLISECONDS)
        looks: list[QWidget | None] = []

        def look() -> None:
            dialog = QApplication.activeModalWidget()
            looks.append(dialog)
            if dialog is not None and dialog.isAncestorOf(QApplication.focusWidget() or self.window):
                timer.stop()
                answer(dialog)
            elif len(looks) > _MOST_LOOKS:
                timer.stop()
                assert isinstance(dialog, QDialog), "no dialog came"
                dialog.reject()

        timer.timeout.connect(look)
        timer.start()


class Mouse(Hands):
    """The mouse points at everything; texts are typed."""

    def push(self, name: str) -> None:
        """Click it."""
        self._wait_for(name)
        self.click(name, QAbstractButton, self.window.current_page())

    def put(self, name: str, text: str) -> None:
        """Click into it, and type."""
        self._wait_for(name)
        self.write(name, text)

    def choose(self, name: str, words: str) -> None:
        """Click on the box, then on the entry."""
        box = self.find(name, QComboBox, self.window.current_page())
        self.press(box)
        view = box.view()
        self.wait(view.isVisible, f"the choices of {name!r}")
        QTest.qWait(QApplication.doubleClickInterval() + 50)  # Qt takes a quicker click for the end of the first one
        index = box.model().index(box.findText(words), 0)
        assert index.isValid(), [box.itemText(number) for number in range(box.count())]
        self._click_within(view, view.visualRect(index))
        self.wait(lambda: box.currentText() == words and not view.isVisible(), f"{words!r} in {name!r}", 10)

    def take_from_menu(self, name: str, words: str) -> None:
        """Click on the button, then on the entry."""
        self.push(name)
        self.wait(lambda: isinstance(QApplication.activePopupWidget(), QMenu), f"the menu of {name!r}", 10)
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        action = next(action for action in menu.actions() if _plain(action) == words)
        assert action.isEnabled(), words
        QTest.mouseClick(menu, Qt.MouseButton.LeftButton, _NONE, menu.actionGeometry(action).center())

    def select_rows(self, name: str, count: int) -> None:
        """Click on the first, and on the others with Ctrl held."""
        table = self.find(name, QTableView, self.window.current_page())
        for number in range(count):
            place = table.visualRect(table.model().index(number, 0)).center()
            at = table.viewport().mapTo(self.window, place)
            held = _CONTROL if number else _NONE
            QTest.mouseClick(self.window.windowHandle(), Qt.MouseButton.LeftButton, held, at)

    def go_on(self) -> None:
        """Click on the button that stands out."""
        self.press(_main_button(self))

    def _click_within(self, view: QAbstractItemView, place: QRect) -> None:
        view.scrollTo(view.indexAt(place.center()))
        QTest.mouseMove(view.viewport(), place.center())
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, _NONE, place.center())


class Keys(Hands):
    """The keyboard alone. Wherever the focus goes on the way, it is to be seen."""

    def key(self, key: Qt.Key, held: Qt.KeyboardModifier = _NONE) -> None:
        """Press a key."""
        self._come_back()
        QTest.keyClick(QGuiApplication.focusWindow(), key, held)

    def type(self, text: str) -> None:
        """Type a text."""
        press: Any = QTest.keyClick  # takes a letter, too, which its types do not say
        for letter in text:
            press(QGuiApplication.focusWindow(), letter)

    def go_to(self, title: str) -> None:
        """Go to a page by the palette."""
        self.search(f"Go to {title}")
        self.wait(lambda: self.window.current_page().title == title, f"the page {title}", 10)

    def search(self, words: str) -> None:
        """Take what the palette has for words."""
        self.key(_KEY.Key_K, _CONTROL)
        self.wait(lambda: self.focused() == "Search actions and settings", "the palette", 10)
        self.type(words)
        self.key(_KEY.Key_Return)
        self.wait(lambda: self.focused() != "Search actions and settings", "the end of the palette", 10)
        QTest.qWait(5)

    def push(self, name: str) -> None:
        """Go there by Tab, and press Space."""
        self._wait_for(name)
        self.tab_to(name)
        self.key(_KEY.Key_Space)

    def put(self, name: str, text: str) -> None:
        """Go there, by the palette where the fields are many, replace the text, and confirm."""
        if self.window.current_page().title == "Training" and name != "Name of the run":
            self.search(name)
            assert self.focused() == name, f"the palette leads to {self.focused()!r}, not {name!r}"
            self._must_be_seen()
        else:
            self._wait_for(name)
            self.tab_to(name)
        self.key(_KEY.Key_A, _CONTROL)
        self.type(text)
        self.key(_KEY.Key_Return)

    def tick(self, name: str, wanted: bool) -> None:
        """Go there and press Space where it is not so already."""
        box = self.find(name, QAbstractButton, self.window.current_page())
        self.tab_to(name)
        if box.isChecked() != wanted:
            self.key(_KEY.Key_Space)
        assert box.isChecked() == wanted, name

    def choose(self, name: str, words: str) -> None:
        """Go there and move through the choices by the arrows."""
        self.tab_to(name)
        box = _focus()
        assert isinstance(box, QComboBox)
        wanted = box.findText(words)
        assert wanted >= 0, [box.itemText(number) for number in range(box.count())]
        while box.currentIndex() != wanted:
            self.key(_KEY.Key_Down if box.currentIndex() < wanted else _KEY.Key_Up)

    def take_from_menu(self, name: str, words: str) -> None:
        """Push the button, and go down to the entry."""
        self.push(name)
        self.wait(lambda: isinstance(QApplication.activePopupWidget(), QMenu), f"the menu of {name!r}", 10)
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        for _ in menu.actions():
            self.key(_KEY.Key_Down)
            active = menu.activeAction()
            if active is not None and _plain(active) == words:
                self.key(_KEY.Key_Return)
                return
        raise AssertionError(f"{words!r} is not among {[_plain(action) for action in menu.actions()]}")

    def select_rows(self, name: str, count: int) -> None:
        """Go to the table, to its first row, and down with Shift held."""
        self.tab_to(name)
        self.key(_KEY.Key_Home, _CONTROL)
        for _ in range(count - 1):
            self.key(_KEY.Key_Down, Qt.KeyboardModifier.ShiftModifier)

    def go_on(self) -> None:
        """Press what presses the main button."""
        _main_button(self)
        self.key(_KEY.Key_Return, _CONTROL)

    def tab_to(self, name: str) -> None:
        """Press Tab until what has this name has the focus."""
        passed: list[str] = []
        for _ in range(_MOST_TABS):
            focus = _focus()
            if self.focused() == name and self.window.current_page().isAncestorOf(focus):
                self._must_be_seen()
                return
            self.key(_KEY.Key_Tab)
            passed.append(self.focused())
            self._must_be_seen()
        raise AssertionError(f"Tab does not come to {name!r}, but to {list(dict.fromkeys(passed))}")

    def _must_be_seen(self) -> None:
        focus = _focus()
        assert not focus.visibleRegion().isEmpty(), f"the focus is in {self.focused()!r}, which is not to be seen"


def _focus() -> QWidget:
    focus = QApplication.focusWidget()
    assert focus is not None, "nothing has the focus"
    return focus


def _plain(action: QAction) -> str:
    """Return the words of a menu's entry, without the mark of its letter."""
    return action.text().replace("&", "")


def _main_button(person: Person) -> QAbstractButton:
    page = person.window.current_page()
    person.wait(lambda: len(_main_buttons(page)) == 1, f"one main button on {page.title}")
    return _main_buttons(page)[0]


def _main_buttons(page: QWidget) -> list[QAbstractButton]:
    buttons = page.findChildren(QAbstractButton)
    return [b for b in buttons if b.property("kind") == "primary" and b.isVisible() and b.isEnabled()]


def _type_path(dialog: QWidget, path: Path) -> None:
    """The field for the name has the focus as the dialog comes up; Return takes what stands there."""
    assert isinstance(dialog, QFileDialog)
    QTest.keyClicks(_focus(), str(path))
    QTest.keyClick(_focus(), _KEY.Key_Return)
