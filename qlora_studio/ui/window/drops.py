"""What is dropped on a window or pasted into it, taken before any widget sees it, and never as *move*.

A file manager that is told *move* deletes what was dropped, and Qt's own fields answer with whatever was proposed. So
each of the program's windows is watched where drops enter it: files are taken here and answered with *copy*; anything
else from outside goes on to the widgets as a drop that can be nothing but a copy. What can only be moved is refused.
"""

from PySide6.QtCore import QCoreApplication, QEvent, QMimeData, QObject, QPoint, Qt, Signal
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragMoveEvent,
    QDropEvent,
    QGuiApplication,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QPen,
    QShortcut,
    QWindow,
)
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.core.path_text import paths_of_text
from qlora_studio.core.words import say
from qlora_studio.ui.kit.theme import active_theme, sans_font

_COPY = Qt.DropAction.CopyAction
_WORDS = say("Drop it here: a dataset, a model, a run or a run.toml")


class Drops(QObject):
    """Watches the program's windows.

    Signals:
        arrived: paths and links that the user dropped on the main window, or pasted into it outside of a text field.
    """

    arrived = Signal(list)

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window, self._hint = window, _Hint(window)
        self._passing_on = False
        window.setAcceptDrops(True)  # else some platforms offer it none
        self._app = QGuiApplication.instance()
        assert isinstance(self._app, QGuiApplication)
        self._app.focusWindowChanged.connect(self.watch)  # dialogs, too
        QShortcut(QKeySequence(QKeySequence.StandardKey.Paste), window, self._on_paste)

    def watch(self, window: QWindow | None) -> None:
        """Take what is dropped on a window from now on."""
        if window is not None:
            window.removeEventFilter(self)
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take files, and let all else from outside go on as a copy."""
        if isinstance(event, QDropEvent) and not self._passing_on:  # entering and moving are drops, too
            return self._took(watched, event)
        if event.type() == QEvent.Type.DragLeave:
            self._hint.hide()
        return False

    def _took(self, watched: QObject, event: QDropEvent) -> bool:
        if event.source() is not None:
            return False  # text that is moved about in the window itself
        texts, can_be_copied = _offered(event.mimeData()), bool(event.possibleActions() & _COPY)
        if not texts and can_be_copied:
            self._pass_on_as_copy(watched, event)
            return True
        is_ours = watched == self._window.windowHandle() and QApplication.activeModalWidget() is None
        is_taken = is_ours and can_be_copied
        dropped = event.type() == QEvent.Type.Drop
        event.setDropAction(_COPY)
        event.setAccepted(is_taken)
        self._hint.show_over(is_taken and not dropped)
        if is_taken and dropped:
            self.arrived.emit(texts)
        return True

    def _pass_on_as_copy(self, watched: QObject, event: QDropEvent) -> None:
        copy = _as_copy(event)
        self._passing_on = True
        try:
            QCoreApplication.sendEvent(watched, copy)
        finally:
            self._passing_on = False
        event.setDropAction(_COPY)
        event.setAccepted(copy.isAccepted())
        if copy.isAccepted() and event.type() == QEvent.Type.Drop and isinstance(watched, QWindow):
            top = QWidget.find(watched.winId())
            field = top.childAt(event.position().toPoint()) if top is not None else None
            if field is not None:  # as after a click: a field tells what stands in it when the focus leaves
                field.setFocus(Qt.FocusReason.MouseFocusReason)

    def _on_paste(self) -> None:
        texts = _offered(QGuiApplication.clipboard().mimeData())
        if texts:
            self.arrived.emit(texts)


class _Hint(QWidget):
    """Lies over the window while something is dragged over it, and says what can be dropped."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def show_over(self, shown: bool) -> None:
        """Cover the window, or nothing."""
        if shown and not self.isVisible():
            self.setGeometry(self._window.rect())
            self.raise_()
        self.setVisible(shown)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint a veil with a frame, and the words in the middle."""
        theme, painter = active_theme(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        veil = theme.color("background")
        veil.setAlphaF(0.86)
        painter.fillRect(self.rect(), veil)
        painter.setPen(QPen(theme.color("accent"), 2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(self.rect().adjusted(12, 12, -12, -12), 10, 10)
        painter.setFont(sans_font(17))
        painter.setPen(theme.color("text"))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, _WORDS)
        painter.end()


def _offered(data: QMimeData | None) -> list[str]:
    """Return the paths and links in what is dropped or pasted; nothing where it is something else."""
    if data is None:
        return []
    if data.hasUrls():
        return [url.toLocalFile() if url.isLocalFile() else url.toString() for url in data.urls()]
    return paths_of_text(data.text()) if data.hasText() else []


def _as_copy(event: QDropEvent) -> QDropEvent:
    """Return the same event as one that allows nothing but a copy."""
    data, buttons, keys = event.mimeData(), event.buttons(), event.modifiers()
    place = event.position()
    if event.type() == QEvent.Type.DragEnter:
        return QDragEnterEvent(QPoint(round(place.x()), round(place.y())), _COPY, data, buttons, keys)
    if event.type() == QEvent.Type.DragMove:
        return QDragMoveEvent(QPoint(round(place.x()), round(place.y())), _COPY, data, buttons, keys)
    return QDropEvent(place, _COPY, data, buttons, keys)
