"""A line of the dialog: which setting, and which values it is to have."""

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QWidget

from qlora_studio.core.comparison.sweep import Variation, sweepable_settings, variation
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.text import Label, set_style_property
from qlora_studio.ui.kit.widgets import Button, column, row
from qlora_studio.ui.sweep.view import hint, setting_choices, suggested


class VariationLine(QWidget):
    """Chooses a setting and takes its values, with commas between them.

    Signals:
        changed: another setting, or other values.
        removal_requested: take the line away.
    """

    changed = Signal()
    removal_requested = Signal()

    def __init__(self, config: RunConfig, path: str) -> None:
        super().__init__()
        self._config = config
        self._infos = {info.path: info for info in sweepable_settings()}
        self.setting = ComboBox(setting_choices())
        self.setting.setAccessibleName(say("Setting to vary"))
        self.setting.setMinimumWidth(200)
        self.values = QLineEdit()
        self.values.setPlaceholderText(say("Values, with commas between them"))
        self.remove = Button(say("Remove"), "quiet")
        self._hint = Label("", "caption", wrap=True)
        self._problem = Label("", "small", wrap=True)
        self._problem.set_tone("bad")
        across = row(spacing=8)
        across.addWidget(self.setting)
        across.addWidget(self.values, 1)
        across.addWidget(self.remove)
        box = column(self, spacing=3)
        box.addLayout(across)
        box.addWidget(self._hint)
        box.addWidget(self._problem)
        self.setting.chosen.connect(self._on_setting_chosen)
        self.values.textEdited.connect(lambda _text: self.changed.emit())
        self.remove.clicked.connect(self.removal_requested)
        self.setting.set_value(path)
        self._show_setting(path)

    def variation(self) -> Variation:
        """Return what is varied. Raises InvalidRunConfig where that is nothing."""
        return variation(f"{self.setting.value()}={self.values.text()}")

    def show_problem(self, text: str) -> None:
        """Say what is wrong with the values; an empty text is nothing."""
        self._problem.setText(text)
        self._problem.setVisible(bool(text))
        set_style_property(self.values, "invalid", "true" if text else "false")

    def _on_setting_chosen(self, path: str) -> None:
        self._show_setting(path)
        self.changed.emit()

    def _show_setting(self, path: str) -> None:
        info, value = self._infos[path], self._value(path)
        self.values.setText(suggested(info, value))
        self.values.setAccessibleName(say("Values of {title}", title=info.title))
        self.remove.setAccessibleName(say("Remove {title}", title=info.title))
        self._hint.setText(hint(info))
        self.show_problem("")

    def _value(self, path: str) -> Any:
        return self._config.value(path)
