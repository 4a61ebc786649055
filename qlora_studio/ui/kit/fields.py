"""Input fields that leave the wheel to the page, since a scroll must never change a setting, and keep what is typed.

What is being typed stays where another value is shown meanwhile, as an undo or another window may bring one: it is told
when it is done, on top of that value, and Esc lets go of it.
"""

from pathlib import Path
from typing import Any, Protocol

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QPainter, QPaintEvent, QPen, QPolygonF, QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QStyle,
    QStyleOptionButton,
    QVBoxLayout,
    QWidget,
)

from qlora_studio.core.path_text import is_there, path_of_text, whole_path
from qlora_studio.core.quantity import number_text as number_text
from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.theme import active_theme, c_locale
from qlora_studio.ui.kit.widgets import Button, column, row

_CHECK = ((-4.5, 0.5), (-1.4, 3.5), (4.5, -3.2))  # from the middle of the box
_ROUND = (Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)


class Typed(Protocol):
    """A field in which something may be typed that was not told yet."""

    def is_being_typed(self) -> bool:
        """Whether something stands here that was not told yet."""

    def let_go(self) -> None:
        """Show what was shown last."""


class LineEdit(QLineEdit):
    """A line of text.

    Signals:
        told: what was typed is done: by Return, or as the focus leaves, be it for a menu or another window, of which
            Qt's own signal says nothing; at once where a text comes without the focus, pasted or dropped.
        again: Return, where everything was told before.
    """

    told = Signal()
    again = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._shown, self._takes_key = "", False
        self.returnPressed.connect(self._on_return_pressed)
        self.textChanged.connect(self._on_text_changed)

    def show_text(self, text: str) -> None:
        """Show a text, without a signal."""
        self._shown = text
        if not self.is_being_typed() and text != self.text():
            self.setText(text)

    def put_text(self, text: str) -> None:
        """Show a text that was chosen, without a signal, over what is being typed."""
        self._shown = text
        self.setText(text)

    def is_being_typed(self) -> bool:
        """Whether something stands here that was not told yet."""
        return self.isModified()

    def let_go(self) -> None:
        """Show what was shown or told last."""
        self.setText(self._shown)

    def event(self, event: QEvent) -> bool:
        """Have Esc, while something is being typed, before any shortcut has it."""
        return keeps_escape(self, event) or super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let go of what is being typed by Esc."""
        if not was_let_go(self, event):
            self._takes_key = True
            super().keyPressEvent(event)
            self._takes_key = False

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Tell what was typed."""
        super().focusOutEvent(event)
        self._tell()

    def _on_return_pressed(self) -> None:
        if not self._tell():
            self.again.emit()

    def _on_text_changed(self) -> None:
        if self.hasFocus():
            return
        if self._takes_key:  # in a window that is not active; another letter may follow at once
            QTimer.singleShot(0, self, self._tell)
        else:
            self._tell()

    def _tell(self) -> bool:
        if is_new := self.isModified():
            self._shown = self.text()
            self.setModified(False)
            self.told.emit()
        return is_new


class SpinBox(QSpinBox):
    """A whole number."""

    def __init__(self, minimum: int = 0, maximum: int = 2**31 - 1, *, unit: str = "") -> None:
        super().__init__()
        _prepare(self)
        self.setRange(minimum, maximum)
        self.setSuffix(f" {unit}" if unit else "")

    def show_value(self, value: int) -> None:
        """Show a value, without a signal."""
        _show_number(self, value)

    def is_being_typed(self) -> bool:
        """Whether something stands here that was not told yet."""
        return _is_typed(self)

    def let_go(self) -> None:
        """Show what was shown last."""
        self.setValue(self.value())

    def event(self, event: QEvent) -> bool:
        """Have Esc, while something is being typed, before any shortcut has it."""
        return keeps_escape(self, event) or super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let go of what is being typed by Esc."""
        if not was_let_go(self, event):
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()


class NumberBox(QDoubleSpinBox):
    """A real number, written as briefly as it can be: 0.0002 is 2e-4."""

    def __init__(self, minimum: float = 0.0, maximum: float = 1e9, *, unit: str = "") -> None:
        super().__init__()
        _prepare(self)
        self.setDecimals(12)
        self.setRange(minimum, maximum)
        self.setSuffix(f" {unit}" if unit else "")
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)

    def textFromValue(self, value: float) -> str:
        """Return 0.05, 2e-4, 1000."""
        return number_text(value)

    def valueFromText(self, text: str) -> float:
        """Return the number of a text, with or without its unit."""
        return float(self._bare(text))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Accept what Python reads as a number within the range, and the beginnings of one."""
        try:
            value = float(self._bare(text))
        except ValueError:
            partial = set(self._bare(text)) <= set("0123456789.eE+-")
            return (QValidator.State.Intermediate if partial else QValidator.State.Invalid), text, position
        inside = self.minimum() <= value <= self.maximum()
        return (QValidator.State.Acceptable if inside else QValidator.State.Intermediate), text, position

    def show_value(self, value: float) -> None:
        """Show a value, without a signal."""
        _show_number(self, value)

    def is_being_typed(self) -> bool:
        """Whether something stands here that was not told yet."""
        return _is_typed(self)

    def let_go(self) -> None:
        """Show what was shown last."""
        self.setValue(self.value())

    def event(self, event: QEvent) -> bool:
        """Have Esc, while something is being typed, before any shortcut has it."""
        return keeps_escape(self, event) or super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let go of what is being typed by Esc."""
        if not was_let_go(self, event):
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()

    def _bare(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip()


class ComboBox(QComboBox):
    """A choice. `choices` maps each value to its words; `chosen` is emitted when the user picks one."""

    chosen = Signal(str)

    def __init__(self, choices: dict[str, str] | None = None) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self._choices: dict[str, str] | None = None
        self.set_choices(choices or {})
        self.activated.connect(lambda _index: self.chosen.emit(self.value()))

    def set_choices(self, choices: dict[str, str]) -> None:
        """Replace the choices, without a signal; the same ones again cost nothing."""
        if self._choices is not None and list(choices.items()) == list(self._choices.items()):
            return
        self._choices = dict(choices)
        self.blockSignals(True)
        self.clear()
        for value, words in choices.items():
            self.addItem(words, value)
        self.blockSignals(False)

    def value(self) -> str:
        """Return the chosen value, empty where there is none."""
        return str(self.currentData() or "")

    def set_value(self, value: str) -> None:
        """Choose a value, without a signal."""
        self.blockSignals(True)
        self.setCurrentIndex(self.findData(value))
        self.blockSignals(False)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()


class CheckBox(QCheckBox):
    """A yes or no."""

    def __init__(self, text: str = "", *, tip: str = "") -> None:
        super().__init__(text)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        set_tooltip(self, tip)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the check in the theme's colour: a picture in the style sheet would be of one theme."""
        super().paintEvent(event)
        if not self.isChecked():
            return
        option = QStyleOptionButton()
        self.initStyleOption(option)
        place = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
        middle, painter = QRectF(place).center(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(active_theme().color("accent_text"), 2, *_ROUND))
        painter.drawPolyline(QPolygonF([middle + QPointF(x, y) for x, y in _CHECK]))
        painter.end()


def words_of(field: QWidget, title: str, help: str) -> QVBoxLayout:
    """Return the title of a field above its help, and name the field so."""
    field.setAccessibleName(title)
    words, name = column(spacing=1), Label(title, wrap=True)
    name.setBuddy(field)
    words.addWidget(name)
    if help:
        words.addWidget(Label(help, "caption", wrap=True))
    return words


def words_beside(field: QWidget, title: str, help: str) -> QHBoxLayout:
    """Return the title and help of a field with the field at their right."""
    across = row(spacing=16)
    across.addLayout(words_of(field, title, help), 1)
    across.addWidget(field, 0, Qt.AlignmentFlag.AlignVCenter)
    return across


class PathField(QWidget):
    """A line for a path or name with a button that opens the file dialog. `edited` tells what was typed or chosen."""

    edited = Signal(str)

    def __init__(self, placeholder: str = "", *, folder: bool = False, pattern: str = "", caption: str = "") -> None:
        super().__init__()
        self._folder, self._pattern, self._caption = folder, pattern, caption
        self.line = LineEdit()
        self.line.setPlaceholderText(placeholder)
        self.button = Button(say("Browse…"))
        box = row(self)
        box.addWidget(self.line, 1)
        box.addWidget(self.button)
        self.setFocusProxy(self.line)
        for done in (self.line.told, self.line.again):
            done.connect(lambda: self.edited.emit(self.text()))
        self.button.clicked.connect(self._on_button_clicked)

    def setAccessibleName(self, name: str) -> None:
        """Name the line and its button, which a screen reader comes to one after the other."""
        self.line.setAccessibleName(name)
        self.button.setAccessibleName(say("Browse: {name}", name=name))

    def text(self) -> str:
        """Return the path of the text, without quotes or blanks around it."""
        return path_of_text(self.line.text())

    def set_text(self, text: str) -> None:
        """Show a text, without a signal."""
        self.line.show_text(text)

    def _on_button_clicked(self) -> None:
        start = self.text() if self.text() and is_there(whole_path(self.text())) else str(Path.home())
        if self._folder:
            chosen = QFileDialog.getExistingDirectory(self, self._caption, start)
        else:
            chosen, _ = QFileDialog.getOpenFileName(self, self._caption, start, self._pattern)
        if chosen:
            self.line.put_text(chosen)
            self.edited.emit(chosen)


def keeps_escape(field: Typed, event: QEvent) -> bool:
    """Whether an event asks who wants Esc, which a field does in which something is being typed."""
    if event.type() != QEvent.Type.ShortcutOverride or not isinstance(event, QKeyEvent):
        return False
    if event.key() != Qt.Key.Key_Escape or not field.is_being_typed():
        return False
    event.accept()
    return True


def was_let_go(field: Typed, event: QKeyEvent) -> bool:
    """Whether a key was Esc, by which a field has let go of what was being typed."""
    if event.key() != Qt.Key.Key_Escape or not field.is_being_typed():
        return False
    field.let_go()
    return True


def _is_typed(box: SpinBox | NumberBox) -> bool:
    text = box.textFromValue(box.value())  # type: ignore[arg-type]  # the number is the box's own
    return box.hasFocus() and box.text() != box.prefix() + text + box.suffix()


def _show_number(box: SpinBox | NumberBox, value: Any) -> None:
    line = box.lineEdit()
    typed, place = line.text() if box.is_being_typed() else None, line.cursorPosition()
    box.blockSignals(True)
    box.setValue(value)
    if typed is not None:  # it is told as a change of this value
        line.setText(typed)
        line.setCursorPosition(place)
    box.blockSignals(False)


def _prepare(box: QAbstractSpinBox) -> None:
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.setLocale(c_locale())
    box.setKeyboardTracking(False)
    line = box.lineEdit()
    line.setTextMargins(8, 0, 0, 0)
    line.textChanged.connect(lambda: None if box.hasFocus() else box.interpretText())  # pasted or dropped
