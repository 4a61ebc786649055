"""A person at the window: mouse and keyboard events alone, on widgets found by the names that a screen reader reads.

Clicks go through the window, at a place on it, so that what is covered, clipped or scrolled away is not hit.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QElapsedTimer, QEvent, QObject, QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QScrollArea, QWidget

from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.kit.letters import plain
from qlora_studio.ui.kit.text import ElidedLabel
from qlora_studio.ui.kit.widgets import Notice
from qlora_studio.ui.window.rail import RailButton

W = TypeVar("W", bound=QWidget)

PATIENCE = 90.0  # seconds: far more than any step takes with a tiny model, on a busy machine too
_NOTCH = 120


class Person:
    """Looks, clicks, types and waits."""

    def __init__(self, app_window: AppWindow) -> None:
        self.app_window = app_window
        self.window = app_window.window
        self._completed: list[bool] = []
        app_window.completed.connect(lambda: self._completed.append(True))
        self.strangers = _Strangers(self.window)
        self.pulse = Pulse(self.window)
        self.patience = PATIENCE

    def sit_down(self) -> None:
        """Wait until every page is there, and bring the window to the front."""
        self.wait(lambda: self._completed, "the pages")
        self.window.activateWindow()
        self.wait(self.window.isActiveWindow, "the window to come to the front")

    def leave(self) -> None:
        """Close the window; nothing but the window itself may have come up as one."""
        self.pulse.end()
        application().removeEventFilter(self.strangers)
        self.app_window.end()
        self.window.close_now()
        self.app_window.deleteLater()
        assert self.strangers.seen == []

    def go_to(self, title: str) -> None:
        """Click an entry of the rail."""
        self.click(title, RailButton, self.window.rail)
        assert self.window.current_page().title == title

    def click(self, name: str, kind: type[QWidget] = QAbstractButton, within: QWidget | None = None) -> None:
        """Click in the middle of what has this name; it must be there, enabled, and under the mouse."""
        widget = self.find(name, kind, within)
        assert widget.isEnabled(), f"{name!r} is disabled"
        self.press(widget)

    def press(self, widget: QWidget) -> None:
        """Click in the middle of a widget."""
        self._bring_into_view(widget)
        place = self._resting_place(widget)
        hit = self.window.childAt(place)
        assert hit is not None and (hit is widget or widget.isAncestorOf(hit)), f"{hit} lies over {widget}"
        self._click_at(place)

    def write(self, name: str, text: str, *, end: Qt.Key = Qt.Key.Key_Return) -> None:
        """Click into a field, replace what stands in it, and end with a key."""
        field = self.find(name, QWidget, self.window.current_page())
        self.press(field)
        self.wait(field.hasFocus, f"the focus in {name!r}", 10)
        QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(field, text)
        QTest.keyClick(field, end)

    def tick(self, name: str, wanted: bool) -> None:
        """Switch a box on or off by clicking it where it is not so already."""
        box = self.find(name, QAbstractButton, self.window.current_page())
        assert isinstance(box, QAbstractButton)
        if box.isChecked() != wanted:
            self._bring_into_view(box)
            self._click_at(box.mapTo(self.window, QPoint(9, box.height() // 2)))
        assert box.isChecked() == wanted, name

    def find(self, name: str, kind: type[W], within: QWidget | None = None) -> W:
        """Return the one visible widget of this name."""
        found = [widget for widget in self._visible(kind, within) if _name(widget) == name]
        assert len(found) == 1, (
            f"{len(found)} × {name!r} among {sorted({_name(w) for w in self._visible(kind, within)})}"
        )
        return found[0]

    def sees(self, name: str, kind: type[QWidget] = QAbstractButton) -> bool:
        """Whether something of this name is on the open page, enabled."""
        page = self.window.current_page()
        return any(_name(widget) == name and widget.isEnabled() for widget in self._visible(kind, page))

    def texts(self) -> list[str]:
        """Return every text of a label on the open page."""
        labels = self._visible(QLabel, self.window.current_page())
        texts = (label.whole_text() if isinstance(label, ElidedLabel) else label.text() for label in labels)
        return [text for text in texts if text.strip()]

    def reads(self, words: str) -> bool:
        """Whether these words stand in a label of the open page."""
        return any(words in text for text in self.texts())

    def notice(self) -> Notice | None:
        """Return the message of an error that is shown on the open page."""
        notice = self.window.current_page().notice
        return notice if notice.isVisible() else None

    def focused(self) -> str:
        """Return the name of what has the focus, empty where nothing has it."""
        focus = QApplication.focusWidget()
        return "" if focus is None else _name(focus)

    def wait(self, condition: Callable[[], object], what: str, seconds: float | None = None) -> None:
        """Let the window live until something holds; what is waited for in vain fails with what the page says."""
        deadline = time.monotonic() + (seconds or self.patience)
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; the page says {self.texts()}")
            QTest.qWait(5)

    def _visible(self, kind: type[W], within: QWidget | None) -> Iterator[W]:
        whole = within or self.window
        return (widget for widget in whole.findChildren(kind) if widget.isVisible())

    def _click_at(self, place: QPoint) -> None:
        handle = self.window.windowHandle()
        QTest.mouseMove(handle, place)
        QTest.mouseClick(handle, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)

    def _resting_place(self, widget: QWidget) -> QPoint:
        """Return where the widget's middle is, once a layout that is on its way has been done."""
        places: list[QPoint] = []
        while len(places) < 4 or len({(place.x(), place.y()) for place in places[-4:]}) > 1:
            places.append(widget.mapTo(self.window, widget.rect().center()))
            QTest.qWait(5)
        return places[-1]

    def _bring_into_view(self, widget: QWidget) -> None:
        """Turn the wheel over the page until the widget's middle can be seen."""
        area = _scroll_area(widget)
        for _ in range(200):
            if area is None:
                return
            middle = widget.mapTo(area.viewport(), widget.rect().center())
            if area.viewport().rect().adjusted(0, 8, 0, -8).contains(middle):
                return
            _turn_wheel(area, -_NOTCH if middle.y() > area.viewport().height() // 2 else _NOTCH)
        raise AssertionError(f"{_name(widget)!r} cannot be scrolled into view")


class Pulse(QObject):
    """Measures how long the event loop of the window went without a turn, and what it was doing meanwhile."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.worst: dict[str, tuple[float, float]] = {}  # seconds by the clock, and of this thread's own work
        self.stage = "start"
        self._clock = QElapsedTimer()
        self._work = 0.0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._on_timeout)
        self.begin()

    def begin(self) -> None:
        """Count from now."""
        self._clock.start()
        self._work = time.thread_time()
        self._timer.start()

    def end(self) -> None:
        """Count no more."""
        self._timer.stop()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Leave out what a test does itself."""
        self.end()
        yield
        self.begin()

    def text(self) -> str:
        """Return the longest of each stage, for people."""
        lines = [
            f"{name}: {wall * 1000:.0f} ms, {work * 1000:.0f} ms of it its own work"
            for name, (wall, work) in self.worst.items()
        ]
        return "\n".join(["Longest time that the window did not answer:", *lines])

    def _on_timeout(self) -> None:
        seconds, work = self._clock.nsecsElapsed() / 1e9, time.thread_time()
        self.worst[self.stage] = max(self.worst.get(self.stage, (0.0, 0.0)), (seconds, work - self._work))
        self._work = work
        self._clock.start()


class _Strangers(QObject):
    """Notes what comes up as a window of its own, if only for a moment: it flashes, and takes the keyboard away."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.seen: list[str] = []
        self._window = window
        application().installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Note a window that is neither ours nor a menu, a tip or a dialog."""
        if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
            known = (Qt.WindowType.Popup, Qt.WindowType.ToolTip, Qt.WindowType.Dialog)
            if watched is not self._window and watched.windowType() not in known:
                self.seen.append(f"{type(watched).__name__} {_name(watched)!r}")
        return False


def picture(person: Person, name: str) -> None:
    """Take a picture where the environment asks for pictures: for people, to look at."""
    place = os.environ.get("QLORA_STUDIO_TEST_PICTURES", "")
    if place:
        with person.pulse.resting():
            Path(place).mkdir(parents=True, exist_ok=True)
            QTest.qWait(300)  # what is still being laid out
            person.window.grab().save(str(Path(place) / f"{name}.png"))


def application() -> QApplication:
    """Return the application."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app


def _name(widget: QWidget) -> str:
    """Return what a screen reader says: the accessible name, else the text of a button."""
    text = plain(widget.text()) if isinstance(widget, QAbstractButton) else ""
    return widget.accessibleName() or text


def _scroll_area(widget: QWidget) -> QScrollArea | None:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QScrollArea):
        parent = parent.parentWidget()
    return parent


def _turn_wheel(area: QScrollArea, angle: int) -> None:
    viewport = area.viewport()
    place = QPointF(2, viewport.height() / 2)  # at the margin, over no field
    event = QWheelEvent(
        place,
        viewport.mapToGlobal(place),
        QPoint(),
        QPoint(0, angle),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(viewport, event)
    QApplication.processEvents()
