"""Menus of a button: one of a few choices, whose word the button wears."""

from collections.abc import Callable, Mapping

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu

from qlora_studio.ui.kit.widgets import Button


class ChoiceButton(Button):
    """A quiet button that says what is chosen, in `words` around its title, and offers the other choices.

    Signals:
        chosen: the value that the user chose.
    """

    chosen = Signal(str)

    def __init__(self, words: Callable[[str], str], choices: Mapping[str, str], *, tip: str) -> None:
        super().__init__("", "quiet", tip=tip)
        self._words, self._titles = words, dict(choices)
        menu, group = QMenu(self), QActionGroup(self)
        self._actions: dict[str, QAction] = {}
        for value, title in choices.items():
            action = self._actions[value] = menu.addAction(title)
            action.setCheckable(True)
            group.addAction(action)
            action.triggered.connect(lambda _=False, value=value: self._on_triggered(value))
        self.setMenu(menu)
        self.setProperty("menu", "true")
        self.choose(next(iter(choices)))

    def value(self) -> str:
        """Return what is chosen."""
        return self._value

    def choose(self, value: str) -> None:
        """Choose without telling."""
        self._value = value
        self._actions[value].setChecked(True)
        self.setText(self._words(self._titles[value]))

    def _on_triggered(self, value: str) -> None:
        self.choose(value)
        self.chosen.emit(value)
