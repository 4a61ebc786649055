"""One setting: its title and help at the left, its field at the right, and below them what is wrong with it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import (
    CheckBox,
    ComboBox,
    LineEdit,
    NumberBox,
    SpinBox,
    number_text,
    was_let_go,
    words_beside,
    words_of,
)
from qlora_studio.ui.kit.text import Label, set_style_property, set_tooltip
from qlora_studio.ui.kit.widgets import column

WIDTH = 168
_TINY = 0.001  # a number below this is written, not stepped


class SettingLine(QWidget):
    """A setting of the run config; `changed` is told its path, and the new value, or the text where it is no value."""

    def __init__(self, info: SettingInfo, changed: Callable[[str, Any], object]) -> None:
        super().__init__()
        self.info, self._changed = info, changed
        self._problem = ""
        self._pending = False
        self.field = _field_for(info)
        self.field.setAccessibleDescription(info.help)
        set_tooltip(self.field, _tip(info))
        self._message = Label("", "small", wrap=True)
        self._message.set_tone("bad")
        self._message.hide()
        self._cost = Label("", "caption", wrap=True)
        self._cost.hide()
        self._build()
        _connect(self.field, self._on_field_changed)

    def value(self) -> Any:
        """Return what stands in the field."""
        return _read(self.field, self.info)

    def show_value(self, value: Any) -> None:
        """Show a value, without a signal."""
        self._pending = False
        self.field.blockSignals(True)
        _write(self.field, value)
        self.field.blockSignals(False)
        self._show_cost()

    def show_problem(self, message: str) -> None:
        """Say what is wrong, below the field; an empty message ends it."""
        if not message and not self._problem:
            self._pending = False
            return
        self._problem = message
        self._pending = self._pending and bool(message)
        self._message.setText(message[:1].upper() + message[1:])
        self._message.setVisible(bool(message))
        set_style_property(self.field, "invalid", "true" if message else "false")

    def problem(self) -> str:
        """Return what is wrong, or nothing."""
        return self._problem

    def has_problem(self) -> bool:
        """Whether something is wrong."""
        return bool(self._problem)

    def is_pending(self) -> bool:
        """Whether the field shows something that the config has not."""
        return self._pending and self.has_problem()

    def _on_field_changed(self) -> None:
        self.show_problem("")
        self._show_cost()
        self._pending = True
        self._changed(self.info.path, self.value())

    def _show_cost(self) -> None:
        if self.info.costs:
            self._cost.setText(self.info.costs.get(str(self.value()), ""))
            self._cost.setVisible(bool(self._cost.text()))

    def _build(self) -> None:
        outer = column(self, margins=(0, 9, 0, 9), spacing=4)
        if isinstance(self.field, QPlainTextEdit):
            outer.addLayout(words_of(self.field, self.info.title, self.info.help))
            outer.addWidget(self.field)
        else:
            outer.addLayout(words_beside(self.field, self.info.title, self.info.help))
        outer.addWidget(self._cost)
        outer.addWidget(self._message)


class ListEdit(QPlainTextEdit):
    """Several texts, one a line.

    `done` is emitted when the focus leaves another text than was shown or told last, and at once where one comes
    without the focus: pasted by a menu that outlived it, or dropped.
    """

    done = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._known, self._is_showing = "", False
        self.textChanged.connect(self._on_text_changed)
        self.setTabChangesFocus(True)
        self.setFixedHeight(64)
        self.setPlaceholderText(say("One a line"))

    def texts(self) -> list[str]:
        """Return the lines that are not empty."""
        return [line.strip() for line in self.toPlainText().splitlines() if line.strip()]

    def show_texts(self, texts: Sequence[str]) -> None:
        """Show other texts; the same ones stay as they were typed."""
        self._show(lambda: [*texts] == self.texts(), "\n".join(texts))

    def is_being_typed(self) -> bool:
        """Whether something stands here that was not told yet."""
        return self.hasFocus() and self.toPlainText() != self._known

    def let_go(self) -> None:
        """Show what was shown last."""
        self._show_text(self._known)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let go of what is being typed by Esc."""
        if not was_let_go(self, event):
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Tell of a changed text, whenever and however it came here: typed, pasted, or dropped."""
        super().focusOutEvent(event)
        self._tell()

    def _show(self, is_same: Callable[[], bool], text: str) -> None:
        """Show a text, unless what stands here is the same, or is being typed."""
        if self.is_being_typed():
            self._known = text
            return
        if not is_same():
            self._show_text(text)
        self._known = self.toPlainText()

    def _show_text(self, text: str) -> None:
        self._is_showing = True
        self.setPlainText(text)
        self._is_showing = False

    def _on_text_changed(self) -> None:
        if not self._is_showing and not self.hasFocus():
            self._tell()

    def _tell(self) -> None:
        if self.toPlainText() != self._known:
            self._known = self.toPlainText()
            self.done.emit()


class TableEdit(ListEdit):
    """Names with their values, `name = value` a line; a value is JSON, or else a text."""

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText(say("enable_thinking = false, one a line"))

    def table(self) -> dict[str, Any] | str:
        """Return the values by name. What is no such line goes on as it is: the config says what is wrong with it."""
        pairs = [text.partition("=") for text in self.texts()]
        whole = all(sign and name.strip() for name, sign, _ in pairs)
        return {name.strip(): _value(text.strip()) for name, _, text in pairs} if whole else self.toPlainText().strip()

    def show_table(self, table: dict[str, Any]) -> None:
        """Show values by name."""
        lines = (f"{name} = {_value_text(value)}" for name, value in table.items())
        self._show(lambda: table == self.table(), "\n".join(lines))


def _field_for(info: SettingInfo) -> QWidget:
    field: QWidget
    if info.choices:
        field = ComboBox(info.choices)
    elif info.kind is bool:
        return CheckBox()
    elif info.kind is int:
        field = SpinBox(int(info.minimum or 0), int(info.maximum or 2**31 - 1), unit=info.unit)
    elif info.kind is float and not (0 < abs(info.default) < _TINY):
        field = NumberBox(info.minimum or 0.0, 1e9 if info.maximum is None else info.maximum, unit=info.unit)
    elif info.kind is dict:
        return TableEdit()
    elif info.kind is list:
        return ListEdit()
    else:
        field = LineEdit()
    field.setFixedWidth(WIDTH)
    return field


def _connect(field: QWidget, changed: Any) -> None:
    match field:
        case ComboBox():
            field.chosen.connect(lambda _value: changed())
        case CheckBox():
            field.toggled.connect(lambda _checked: changed())
        case SpinBox() | NumberBox():
            field.valueChanged.connect(lambda _value: changed())
        case LineEdit():
            field.told.connect(changed)
        case ListEdit():
            field.done.connect(changed)


def _read(field: QWidget, info: SettingInfo) -> Any:
    match field:
        case ComboBox():
            return field.value()
        case CheckBox():
            return field.isChecked()
        case SpinBox() | NumberBox():
            return field.value()
        case TableEdit():
            return field.table()
        case ListEdit():
            return field.texts()
        case LineEdit():
            return _number(field.text()) if info.kind is float else field.text().strip()
    raise TypeError(type(field))


def _write(field: QWidget, value: Any) -> None:
    match field:
        case ComboBox():
            field.set_value(str(value))
        case CheckBox():
            field.setChecked(bool(value))
        case SpinBox() | NumberBox():
            field.show_value(value)
        case TableEdit():
            field.show_table(value)
        case ListEdit():
            field.show_texts([str(item) for item in value])
        case LineEdit():
            field.show_text(number_text(value) if isinstance(value, float) else str(value))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _value_text(value: Any) -> str:
    """Return what is read as the value: a text as it is, where it is not taken for JSON or cut."""
    plain = isinstance(value, str) and value == " ".join(value.split()) and _value(value) is value and value
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _number(text: str) -> float | str:
    """A text that is no number goes on as it is: the config says what is wrong with it."""
    try:
        return float(text)
    except ValueError:
        return text.strip()


def _tip(info: SettingInfo) -> str:
    bounds = []
    if info.minimum is not None:
        bounds.append(say("from {minimum}", minimum=number_text(float(info.minimum))))
    if info.maximum is not None:
        bounds.append(say("to {maximum}", maximum=number_text(float(info.maximum))))
    lines = [info.help, " ".join([*bounds, info.unit]).strip(), say("{path} in run.toml", path=info.path)]
    return "\n".join(line for line in lines if line)
