"""The fields of a place, made from what core says of them: titles, help, bounds, and what stands there first."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QPlainTextEdit, QWidget

from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.elsewhere.place import Place, place_settings
from qlora_studio.core.errors import Problem
from qlora_studio.core.words import say
from qlora_studio.ui.elsewhere.view import name_of_host
from qlora_studio.ui.kit.fields import SpinBox
from qlora_studio.ui.kit.layouts import TileGrid
from qlora_studio.ui.kit.text import Label, set_style_property, set_tooltip
from qlora_studio.ui.kit.widgets import Button, column

_ROWS = (("host", "name"), ("folder", "program"), ("partition", "time", "cards"))
_ADVANCED = (("setup",), ("account", "cpus", "memory"), ("nodes", "interface"), ("options",), ("grace_seconds",))
_LINES = ("setup", "options")  # fields of several lines
_LINES_HEIGHT = 64
_HINTS = {"host": say("as you type it after ssh"), "partition": say("the scheduler's choice")}
_Field = QLineEdit | QPlainTextEdit | SpinBox


class PlaceForm(QWidget):
    """Shows a place, and returns what was made of it.

    Signals:
        changed: something else is written.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, _Field] = {}
        self._problems: dict[str, Label] = {}
        self.advanced = Button(say("Advanced"), "quiet", checkable=True)
        infos = {info.name: info for info in place_settings()}
        self._rest = QWidget()
        box, rest = column(self, spacing=10), column(self._rest, spacing=10)
        for target, rows in ((box, _ROWS), (rest, _ADVANCED)):
            for names in rows:
                parts = [self._part(infos[name]) for name in names]
                target.addWidget(TileGrid(parts, columns=(len(parts),), least=96, spacing=12))
        box.addWidget(self.advanced)
        box.addWidget(self._rest)
        self.advanced.toggled.connect(self._rest.setVisible)
        self._rest.hide()
        self._line("host").textEdited.connect(self._name_it)

    def show_place(self, place: Place | None) -> None:
        """Show a place; None shows what a new one begins with."""
        for info in place_settings():
            value = getattr(place, info.name) if place is not None else info.default
            self._show(self.fields[info.name], "" if not isinstance(value, str | int) else value)
        self._name_it()
        self.show_problems(())

    def values(self) -> dict[str, object]:
        """Return what is written, by field; a place without a name is called as its host is."""
        found = {name: _value(field) for name, field in self.fields.items()}
        return {**found, "name": found["name"] or name_of_host(str(found["host"]))}

    def show_problems(self, problems: Sequence[Problem]) -> None:
        """Say below each field what is wrong with it."""
        for name, label in self._problems.items():
            words = "; ".join(problem.message for problem in problems if problem.field == name)
            label.setText(words)
            label.setVisible(bool(words))
            set_style_property(self.fields[name], "invalid", "true" if words else "false")

    def _name_it(self, _text: str = "") -> None:
        self._line("name").setPlaceholderText(name_of_host(self._line("host").text()))

    def _line(self, name: str) -> QLineEdit:
        field = self.fields[name]
        assert isinstance(field, QLineEdit)
        return field

    def _part(self, info: SettingInfo) -> QWidget:
        field = self.fields[info.name] = self._field(info)
        field.setAccessibleName(info.title)
        field.setAccessibleDescription(info.help)
        set_tooltip(field, info.help)
        part, title, problem = QWidget(), Label(info.title, "caption"), Label("", "small", wrap=True)
        title.setBuddy(field)
        problem.set_tone("bad")
        problem.hide()
        self._problems[info.name] = problem
        box = column(part, spacing=3)
        for widget in (title, field, problem):
            box.addWidget(widget)
        box.addStretch(1)
        return part

    def _field(self, info: SettingInfo) -> _Field:
        if info.kind is int:
            number = SpinBox(int(info.minimum or 0), int(info.maximum or 1), unit=info.unit)
            number.valueChanged.connect(lambda _value: self.changed.emit())
            return number
        if info.name in _LINES:
            text = QPlainTextEdit()
            text.setTabChangesFocus(True)
            text.setFixedHeight(_LINES_HEIGHT)
            text.textChanged.connect(self.changed)
            return text
        line = QLineEdit()
        line.setPlaceholderText(_HINTS.get(info.name, ""))
        line.textEdited.connect(lambda _text: self.changed.emit())
        return line

    @staticmethod
    def _show(field: _Field, value: str | int) -> None:
        field.blockSignals(True)
        if isinstance(field, SpinBox):
            field.setValue(int(value))
        elif isinstance(field, QPlainTextEdit):
            field.setPlainText(str(value))
        else:
            field.setText(str(value))
        field.blockSignals(False)


def _value(field: _Field) -> object:
    if isinstance(field, SpinBox):
        return field.value()
    return field.toPlainText() if isinstance(field, QPlainTextEdit) else field.text().strip()
