"""What can be reached on the pages: every button, menu entry and field that is there now, as entries of the palette."""

from collections.abc import Callable, Iterator

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QWidget,
)

from qlora_studio.core.words import say
from qlora_studio.ui.kit.letters import plain
from qlora_studio.ui.kit.widgets import Card
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page

PLACE = "place"  # a property of actions of the window that the palette lists together, apart from the others
_FIELDS = (QLineEdit, QAbstractSpinBox, QComboBox, QPlainTextEdit, QCheckBox)


def page_entries(window: MainWindow) -> Iterator[Entry]:
    """Return what is on every page, the open one first."""
    front = window.current_page()
    for page in (front, *(page for page in window.pages.values() if page is not front)):
        yield from _entries(window, page)


def action_entries(window: QWidget) -> Iterator[Entry]:
    """Return the window's own actions."""
    for action in window.actions():
        if action.isEnabled() and action.text():
            where = str(action.property(PLACE) or say("Window"))
            yield Entry(plain(action.text()), where, action.trigger, keys_of(action))


def keys_of(action: QAction) -> str:
    """Return the keys of an action, as this desktop writes them."""
    return str(action.property("keys") or action.shortcut().toString(action.shortcut().SequenceFormat.NativeText))


def name_of(widget: QWidget) -> str:
    """Return what a screen reader calls a widget."""
    return widget.accessibleName() or (plain(widget.text()) if isinstance(widget, QAbstractButton) else "")


def _entries(window: MainWindow, page: Page) -> Iterator[Entry]:
    for widget in page.findChildren(QWidget):
        if isinstance(widget, QMenu):
            yield from _menu_entries(window, page, widget)
        elif widget.isVisibleTo(page) and widget.isEnabled() and name_of(widget):
            where = _where(page, widget)
            if isinstance(widget, _FIELDS):
                yield Entry(name_of(widget), where, _going(window, page, widget), words=widget.accessibleDescription())
            elif isinstance(widget, QAbstractButton) and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
                keys = widget.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
                yield Entry(name_of(widget), where, _pressing(window, page, widget), keys)


def _menu_entries(window: MainWindow, page: Page, menu: QMenu) -> Iterator[Entry]:
    button = menu.parentWidget()
    if button is not None and button.isVisibleTo(page):
        for action in menu.actions():
            if action.isEnabled() and action.isVisible() and action.text():
                yield Entry(plain(action.text()), _where(page, button), _triggering(window, page, action))


def _where(page: Page, widget: QWidget) -> str:
    parent = widget.parentWidget()
    while parent is not None and parent is not page:
        if isinstance(parent, Card) and parent.title_label.text():
            return f"{page.title} · {parent.title_label.text()}"
        parent = parent.parentWidget()
    return page.title


def _going(window: MainWindow, page: Page, widget: QWidget) -> Callable[[], None]:
    def go() -> None:
        window.show_page(page.name)
        page.focus_on(widget)

    return go


def _pressing(window: MainWindow, page: Page, button: QAbstractButton) -> Callable[[], None]:
    def press() -> None:
        window.show_page(page.name)
        page.focus_on(button)
        button.click()

    return press


def _triggering(window: MainWindow, page: Page, action: QAction) -> Callable[[], None]:
    def trigger() -> None:
        window.show_page(page.name)
        action.trigger()

    return trigger
