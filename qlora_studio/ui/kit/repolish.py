"""Has widgets take the colours of another theme: at once what is seen, or comes to be seen, the rest in short turns.

A style sheet reads the palette once, when it dresses a widget. To set the sheet again would dress all the window's
widgets in one go, hidden ones too, and lay them all out anew: close to a second. Nothing but colours has changed.
"""

import time
from collections.abc import Iterable, Iterator

import shiboken6
from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtWidgets import QApplication, QStackedWidget, QWidget

from qlora_studio.ui.kit.fonts import polish_again

_TURN_SECONDS = 0.005


class Repolish(QObject):
    """What still wears the colours of the theme before."""

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self._waiting: list[QWidget] = []
        self._turns = QTimer(self)
        self._turns.setInterval(0)
        self._turns.timeout.connect(self._on_turn)

    def begin(self) -> None:
        """Dress what is seen, and have the rest follow, first what is folded or scrolled away in the page in front."""
        widgets = QApplication.allWidgets()
        soon = _in_front(widgets)
        seen = {widget for widget in widgets if widget.isVisible() and not _is_scrolled_away(widget)}
        self._waiting = sorted((widget for widget in widgets if widget not in seen), key=soon.__contains__)
        for widget in self._waiting:
            widget.installEventFilter(self)
        for widget in seen:
            polish_again(widget)
        for window in QApplication.topLevelWidgets():
            window.update()
        self._turns.start()

    def finish(self, part: QWidget) -> None:
        """Dress what will be seen of a part of the window that is about to be shown; what is folded there is next."""
        if not self._waiting:
            return
        there = {part, *part.findChildren(QWidget)}.intersection(self._waiting)
        done = there.intersection(_to_be_seen(part))
        self._dress_waiting(done)
        left = (widget for widget in self._waiting if widget not in done)
        self._waiting = sorted(left, key=there.__contains__)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Dress what is shown or scrolled to before its turn, so that it is not seen in the theme before."""
        if event.type() in (QEvent.Type.Show, QEvent.Type.Paint) and isinstance(watched, QWidget):
            self._dress_waiting([watched])
        return False

    def _dress_waiting(self, widgets: Iterable[QWidget]) -> None:
        for widget in widgets:
            if shiboken6.isValid(widget):
                widget.removeEventFilter(self)
                polish_again(widget)

    def _on_turn(self) -> None:
        until = time.monotonic() + _TURN_SECONDS
        while self._waiting and time.monotonic() < until:
            self._dress_waiting([self._waiting.pop()])
        if not self._waiting:
            self._turns.stop()


def _to_be_seen(part: QWidget) -> Iterator[QWidget]:
    """Yield a part and what comes to be seen with it: not what was hidden there, but what was never shown yet."""
    yield part
    for child in part.children():
        if isinstance(child, QWidget) and not child.isWindow() and not _was_hidden(child):
            yield from _to_be_seen(child)


def _was_hidden(widget: QWidget) -> bool:
    """Whether a widget is hidden because somebody hid it: Qt says so of all that was never shown, too."""
    return widget.isHidden() and widget.testAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide)


def _is_scrolled_away(widget: QWidget) -> bool:
    return not widget.isWindow() and not widget.size().isEmpty() and widget.visibleRegion().isEmpty()


def _in_front(widgets: Iterable[QWidget]) -> set[QWidget]:
    stacks = (widget for widget in widgets if isinstance(widget, QStackedWidget) and widget.isVisible())
    pages = [page for stack in stacks if (page := stack.currentWidget()) is not None]
    return {widget for page in pages for widget in page.findChildren(QWidget)}
