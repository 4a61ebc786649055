"""The monkey's hand: turns an action into events of mouse, keyboard and desktop at the window that is there."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QGuiApplication, QKeyEvent, QWheelEvent, QWindow
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QLineEdit,
    QPlainTextEdit,
    QScrollArea,
    QSlider,
    QTableView,
    QWidget,
)

from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.ui.app import AppWindow
from tests.ui.monkey.actions import Action
from tests.ui.monkey.world import World

T = TypeVar("T")
_USABLE = (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QTableView, QSlider, QPlainTextEdit)
_FIELDS = (QLineEdit, QAbstractSpinBox, QPlainTextEdit)
_KEY = Qt.Key
_KEYS = (
    *((_KEY.Key_Tab,) * 6),
    *(
        (_KEY.Key_Return, _KEY.Key_Space, _KEY.Key_Escape, _KEY.Key_Up, _KEY.Key_Down, _KEY.Key_Left, _KEY.Key_Right)
        * 2
    ),
    *(_KEY.Key_Backtab, _KEY.Key_Home, _KEY.Key_End, _KEY.Key_PageUp, _KEY.Key_PageDown, _KEY.Key_Delete, _KEY.Key_F1),
    *(_KEY.Key_Backspace, _KEY.Key_F5, _KEY.Key_Menu),
)
_WITH_CONTROL = "ACFKOVXZ,123456789"  # not Q, which closes the program: "close" does that
_TEXTS = (
    "0",
    "-1",
    "1e999",
    "NAN",
    "7",
    "3e-4",
    "starter",
    "a/b",
    "no such thing",
    "\u202e",
    "<b>",
    "x" * 300,
    "",
    " ",
)
_SIZES = ((1024, 640), (1280, 720), (1440, 900), (1920, 1080), (600, 400), (2560, 1440))
_ANSWER_MILLISECONDS = 25
_NESTED_LOOKS = 3  # so often a menu is seen within one action: it has a loop of its own, and waits for somebody
_PATIENCE = 40  # looks that a dialog may stay, whatever it is answered


class Hand:
    """Acts on the window. `stuck` names a dialog that nothing closes."""

    def __init__(self, world: World) -> None:
        self.stuck = ""
        self._world = world
        self._app_window: AppWindow | None = None
        self._dice = random.Random(0)
        self._acting = False
        self._looks = 0
        self._acts: dict[str, Callable[[Action], None]] = {
            "use": self._use,
            "point": self._point,
            "double": self._double,
            "menu": self._menu,
            "key": self._key,
            "type": self._type,
            "fill": self._fill,
            "paste": self._paste,
            "drop": self._drop,
            "drag": self._drag,
            "wheel": self._wheel,
            "page": self._page,
            "resize": self._resize,
            "theme": self._theme,
            "hide": self._hide,
            "begin_run": self._begin_run,
            "open_run": self._open_run,
            "kill_run": self._kill_run,
            "remove_run": self._remove_run,
            "damage_run": self._damage_run,
            "rest": self._rest,
            "close": self._close,
        }
        self._timer = QTimer()
        self._timer.setInterval(_ANSWER_MILLISECONDS)
        # Not answered within the timer's own turn: what an answer opens would wait there, and the timer with it.
        self._timer.timeout.connect(lambda: QTimer.singleShot(0, self._answer))
        self._timer.start()

    def act(self, action: Action, app_window: AppWindow) -> None:
        """Do one thing; dialogs that it opens are answered by numbers that follow from it."""
        self._app_window = app_window
        self._dice = random.Random(str(action))
        self._world.dice = random.Random(str(action))
        os.environ["MONKEY_FATE"] = str(int(1e6 * action.c))  # of workers that the window starts now
        self._acting, self._looks = True, 0
        try:
            self._acts[action.kind](action)
        finally:
            self._acting = False

    def end(self) -> None:
        """Answer no more."""
        self._timer.stop()

    @property
    def _window(self) -> QWidget:
        assert self._app_window is not None
        return self._app_window.window

    def _use(self, action: Action) -> None:
        window = self._window
        usable = _usable_of(window, _USABLE)
        rail = self._app_window.window.rail if self._app_window else None
        if usable := [widget for widget in usable if not (rail and rail.isAncestorOf(widget))]:
            widget = _one_of(usable, action.a)
            _bring_into_view(widget)
            place = QPointF(action.b * (widget.width() - 1), action.c * (widget.height() - 1)).toPoint()
            self._click(widget.mapTo(window, place))

    def _point(self, action: Action) -> None:
        self._click(self._place(action.a, action.b))

    def _double(self, action: Action) -> None:
        QTest.mouseDClick(self._handle(), Qt.MouseButton.LeftButton, pos=self._place(action.a, action.b))

    def _menu(self, action: Action) -> None:
        place = self._place(action.a, action.b)
        QTest.mouseClick(self._handle(), Qt.MouseButton.RightButton, pos=place)

    def _key(self, action: Action) -> None:
        modifiers, key = Qt.KeyboardModifier.NoModifier, _one_of(_KEYS, action.b)
        if action.a < 0.12:
            modifiers, key = Qt.KeyboardModifier.ControlModifier, Qt.Key(ord(_one_of(_WITH_CONTROL, action.b)))
        elif action.a < 0.18:
            modifiers, key = Qt.KeyboardModifier.AltModifier, Qt.Key(ord("A") + int(26 * action.b))
        elif action.a < 0.25:
            modifiers = Qt.KeyboardModifier.ShiftModifier
        for _ in range(1 + int(3 * action.c)):
            QTest.keyClick(self._handle(), key, modifiers)

    def _type(self, action: Action) -> None:
        self._write(action.a, self._window)
        if action.b < 0.5:
            QTest.keyClick(self._handle(), _one_of((_KEY.Key_Return, _KEY.Key_Tab), action.c))

    def _fill(self, action: Action) -> None:
        if fields := _usable_of(self._window, _FIELDS):
            field = _one_of(fields, action.a)
            _bring_into_view(field)
            self._click(_middle(field, self._window))
            QTest.keyClick(self._handle(), Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
            self._write(action.b, self._window)
            QTest.keyClick(self._handle(), Qt.Key.Key_Return)

    def _write(self, number: float, within: QWidget) -> None:
        words = (*_TEXTS, *map(str, self._world.files), str(self._world.user / "model"))
        for character in _one_of(words, number)[:120]:
            field = QApplication.activePopupWidget() or within.focusWidget() or within
            for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):  # QTest knows the keys of Latin 1 alone
                QApplication.sendEvent(field, QKeyEvent(kind, 0, Qt.KeyboardModifier.NoModifier, character))

    def _paste(self, action: Action) -> None:
        QGuiApplication.clipboard().setMimeData(self._dragged(action.a))
        QTest.keyClick(self._handle(), Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)

    def _drop(self, action: Action) -> None:
        """Drag files in from outside. A source that is told "moved" removes them, as file managers do."""
        at, data, window = self._place(action.b, action.c), self._dragged(action.a), self._handle()
        actions, left = Qt.DropAction.CopyAction | Qt.DropAction.MoveAction, Qt.MouseButton.LeftButton
        held = Qt.KeyboardModifier.ShiftModifier  # then "move" is what is proposed
        enter = QDragEnterEvent(at, actions, data, left, held)
        QApplication.sendEvent(window, enter)
        if not enter.isAccepted():
            return
        QApplication.sendEvent(window, QDragMoveEvent(at, actions, data, left, held))
        drop = QDropEvent(QPointF(at), actions, data, left, held)
        QApplication.sendEvent(window, drop)
        if drop.isAccepted() and drop.dropAction() == Qt.DropAction.MoveAction:
            for url in data.urls():
                shutil.rmtree(url.toLocalFile(), ignore_errors=True)
                Path(url.toLocalFile()).unlink(missing_ok=True)

    def _drag(self, action: Action) -> None:
        begin, end = self._place(action.a, action.b), self._place(action.c, action.b)
        QTest.mousePress(self._handle(), Qt.MouseButton.LeftButton, pos=begin)
        for part in range(1, 5):
            self._move(begin + (end - begin) * part / 4)
        QTest.mouseRelease(self._handle(), Qt.MouseButton.LeftButton, pos=self._within(end))

    def _move(self, place: QPoint) -> None:
        QTest.mouseMove(self._handle(), self._within(place))

    def _within(self, place: QPoint) -> QPoint:
        """Return a place of the window as large as it is now: the press may have made it smaller."""
        size = self._handle().size()
        return QPoint(min(place.x(), size.width() - 1), min(place.y(), size.height() - 1))

    def _wheel(self, action: Action) -> None:
        place = self._place(action.a, action.b)
        widget = self._window.childAt(place) or self._window
        at, none = QPointF(widget.mapFrom(self._window, place)), Qt.KeyboardModifier.NoModifier
        turn = QPoint(0, int((action.c - 0.5) * 960))
        phase, buttons = Qt.ScrollPhase.NoScrollPhase, Qt.MouseButton.NoButton
        event = QWheelEvent(at, widget.mapToGlobal(at), QPoint(), turn, buttons, none, phase, False)
        QApplication.sendEvent(widget, event)

    def _page(self, action: Action) -> None:
        assert self._app_window is not None
        rail = self._app_window.window.rail
        buttons = [button for button in rail.findChildren(QAbstractButton) if button.isVisible()]
        self._click(_middle(_one_of(buttons, action.a), self._window))

    def _resize(self, action: Action) -> None:
        self._window.resize(*_one_of(_SIZES, action.a))

    def _theme(self, action: Action) -> None:
        assert self._app_window is not None
        if self._app_window.studio is not None:
            self._app_window.studio.change_settings(theme=_one_of(("light", "dark", "system"), action.a))

    def _hide(self, action: Action) -> None:
        if action.a < 0.5:
            self._window.showMinimized()
            QApplication.processEvents()
        self._window.showNormal()
        self._window.activateWindow()

    def _begin_run(self, action: Action) -> None:
        self._world.begin_run(action.a)

    def _open_run(self, action: Action) -> None:
        assert self._app_window is not None
        folders = list(run_folders(self._world.home / "runs"))
        if folders and self._app_window.studio is not None:
            self._app_window.studio.runs.open(_one_of(folders, action.a))
            self._app_window.window.show_page("run")

    def _kill_run(self, action: Action) -> None:
        self._world.kill_run(action.a)

    def _remove_run(self, action: Action) -> None:
        self._world.remove_run(action.a)

    def _damage_run(self, action: Action) -> None:
        self._world.damage_run(action.a)

    def _rest(self, action: Action) -> None:
        QTest.qWait(int(5 + 800 * action.a**2))

    def _close(self, _action: Action) -> None:
        self._window.close()
        QTest.qWait(5)

    def _click(self, place: QPoint) -> None:
        if not self._window.rect().contains(place):
            return
        self._move(place)
        QTest.mouseClick(self._handle(), Qt.MouseButton.LeftButton, pos=self._within(place))

    def _handle(self) -> QWindow:
        return self._window.windowHandle()

    def _place(self, across: float, down: float) -> QPoint:
        return QPointF(across * (self._window.width() - 1), down * (self._window.height() - 1)).toPoint()

    def _dragged(self, number: float) -> QMimeData:
        files, data = self._world.files, QMimeData()
        file = _one_of(files, number * 7 % 1)
        form = int(number * 6)
        if form == 0:
            data.setText(f'"{file}"')
        elif form == 1:
            data.setText(QUrl.fromLocalFile(str(file)).toString())
        elif form == 2:
            data.setUrls([QUrl.fromLocalFile(str(path)) for path in files[:2]])
        elif form == 3:
            data.setUrls([QUrl.fromLocalFile(str(_one_of(self._world.folders(), number * 7 % 1)))])
        else:
            data.setUrls([QUrl.fromLocalFile(str(file))])
        return data

    def _answer(self) -> None:
        """Answer what waits for an answer in a loop of its own: a dialog, or a menu."""
        box, popup = QApplication.activeModalWidget(), QApplication.activePopupWidget()
        if box is None and popup is None:
            return
        self._looks += 1
        if not self._acting and self._looks < _NESTED_LOOKS:
            return  # else it came after the act, as what the palette does comes, and waits in a loop of its own
        if self._looks > _PATIENCE:
            self.stuck = f"{type(box or popup).__name__} {(box or popup).windowTitle()!r}"  # type: ignore[union-attr]
            (box.done(0) if isinstance(box, QDialog) else (box or popup).close())  # type: ignore[union-attr]
        elif popup is not None:
            if self._looks >= _NESTED_LOOKS:
                QTest.keyClick(
                    popup, self._dice.choice((_KEY.Key_Escape, _KEY.Key_Down, _KEY.Key_Down, _KEY.Key_Return))
                )
        elif box is not None:
            self._answer_box(box)

    def _answer_box(self, box: QWidget) -> None:
        fields = [] if isinstance(box, QFileDialog) else _usable_of(box, _FIELDS)  # a file's name could be a user's
        if fields and self._dice.random() < 0.4:
            QTest.mouseClick(self._dice.choice(fields), Qt.MouseButton.LeftButton)
            self._write(self._dice.random(), box)
            return
        buttons = [button for button in box.findChildren(QAbstractButton) if button.isVisible() and button.isEnabled()]
        if not buttons or self._dice.random() < 0.3:
            QTest.keyClick(box, Qt.Key.Key_Escape)
        else:
            QTest.mouseClick(self._dice.choice(buttons), Qt.MouseButton.LeftButton)


def _one_of(things: "tuple[T, ...] | list[T] | str", number: float) -> T:
    return things[min(int(number * len(things)), len(things) - 1)]  # type: ignore[return-value]


def _usable_of(window: QWidget, kinds: tuple[type[QWidget], ...]) -> list[QWidget]:
    """Return what can be used of these kinds; Qt itself leaves out the others, which are many."""
    found = (widget for kind in kinds for widget in window.findChildren(kind))
    return [widget for widget in found if widget.isVisible() and widget.isEnabled()]


def _middle(widget: QWidget, window: QWidget) -> QPoint:
    return widget.mapTo(window, widget.rect().center())


def _bring_into_view(widget: QWidget) -> None:
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            parent.ensureWidgetVisible(widget)
        parent = parent.parentWidget()
