"""How a file is read, where the program cannot know: its format, its encoding, and which column plays which part."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout

from qlora_studio.core.run_config import RunConfig, all_settings
from qlora_studio.ui.fields import ComboBox
from qlora_studio.ui.plain_text import Label, set_tooltip
from qlora_studio.ui.widgets import Button, Card, row

_PARTS = {"prompt": "Prompt", "completion": "Answer", "system": "System text", "text": "Or all of it: text"}
_NONE = "—"


class ColumnMapping(Card):
    """Combo boxes over the real columns.

    Signals:
        settings_requested: values by path, all at once.
    """

    settings_requested = Signal(dict)

    def __init__(self) -> None:
        super().__init__("How it is read")
        infos = {info.path: info for info in all_settings()}
        self.format = ComboBox(infos["data.format"].choices)
        self.encoding = ComboBox(infos["data.encoding"].choices)
        self.parts = {name: ComboBox() for name in _PARTS}
        self.use = Button("Read it so", tip="Read the file again with these columns")
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(6)
        fields = [("Format", self.format), ("Encoding", self.encoding)]
        fields += [(_PARTS[name], combo) for name, combo in self.parts.items()]
        for index, (title, combo) in enumerate(fields):
            label = Label(title, "muted")
            label.setBuddy(combo)
            combo.setAccessibleName(title)
            grid.addWidget(label, 2 * (index // 3), index % 3)
            grid.addWidget(combo, 2 * (index // 3) + 1, index % 3)
            grid.setColumnStretch(index % 3, 1)
        set_tooltip(self.encoding, infos["data.encoding"].help)
        self.body.addLayout(grid)
        self._help = Label("", "caption", wrap=True)
        line = row()
        line.addWidget(self._help, 1)
        line.addWidget(self.use)
        self.body.addLayout(line)
        self.format.chosen.connect(lambda value: self.settings_requested.emit({"data.format": value}))
        self.encoding.chosen.connect(lambda value: self.settings_requested.emit({"data.encoding": value}))
        for combo in self.parts.values():
            combo.chosen.connect(lambda _value: self._check())
        self.use.clicked.connect(self._on_use_clicked)

    def show_columns(self, columns: Sequence[str], config: RunConfig) -> None:
        """Show the columns of the file and what the draft makes of them."""
        self.format.set_value(config.data.format)
        self.encoding.set_value(config.data.encoding)
        for name, combo in self.parts.items():
            before = combo.value()
            combo.set_choices({"": _NONE, **{column: column for column in columns}})
            wanted = config.data.mapping.get(name, before)
            combo.set_value(wanted if wanted in columns else "")
        self._check()

    def mapping(self) -> dict[str, str]:
        """Return the part that each chosen column plays."""
        return {name: combo.value() for name, combo in self.parts.items() if combo.value()}

    def _check(self) -> None:
        mapping = self.mapping()
        complete = "text" in mapping or {"prompt", "completion"} <= set(mapping)
        self.use.setEnabled(complete)
        self._help.setText("" if complete else "Choose the columns of prompt and answer, or one column of text.")

    def _on_use_clicked(self) -> None:
        mapping = self.mapping()
        form = "text" if "text" in mapping else "question_answer"
        self.settings_requested.emit({"data.format": form, "data.mapping": mapping})
