"""One kind of export: whether it is wanted, in which precision, what it is for and how large it becomes."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.export.formats import ExportFormat
from qlora_studio.core.words import say
from qlora_studio.ui.export.view import precision_words, size_text
from qlora_studio.ui.kit.fields import CheckBox, ComboBox
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import column, row
from qlora_studio.ui.state.run_choice import RunChoice

_WIDTH = 190


class FormatLine(QWidget):
    """A kind with its precisions.

    Signals:
        changed: the user chose otherwise.
    """

    changed = Signal()

    def __init__(self, formats: tuple[ExportFormat, ...]) -> None:
        super().__init__()
        self._formats = {item.text: item for item in formats}
        plain = ExportFormat(formats[0].kind)
        self.wanted = CheckBox(plain.title)
        self.precision = ComboBox({text: precision_words(item) for text, item in self._formats.items()})
        self.precision.setFixedWidth(_WIDTH)
        self.precision.setAccessibleName(say("Precision of {title}", title=plain.title))
        self._help, self._size = Label("", "caption", wrap=True), Label("", "muted")
        self._size.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        box = row(self, margins=(0, 8, 0, 8), spacing=12)
        words = column(spacing=1)
        words.addWidget(self.wanted)
        self._help.setContentsMargins(24, 0, 0, 0)
        words.addWidget(self._help)
        box.addLayout(words, 1)
        side = column(spacing=6)
        side.addWidget(self._size)
        side.addWidget(self.precision)
        if len(formats) > 1:
            side.addStretch(1)
        box.addLayout(side)
        self.precision.setVisible(len(formats) > 1)
        self.wanted.toggled.connect(lambda _checked: self._on_changed())
        self.precision.chosen.connect(lambda _value: self._on_changed())
        self.show_run(None)

    def chosen(self) -> ExportFormat | None:
        """Return what is wanted, or None."""
        return self.format() if self.wanted.isChecked() and not self.isHidden() else None

    def format(self) -> ExportFormat:
        """Return the kind in the chosen precision."""
        return self._formats.get(self.precision.value()) or next(iter(self._formats.values()))

    def show_run(self, run: RunChoice | None) -> None:
        """Show the size for a run."""
        self._run = run
        self._help.setText(self.format().help)
        self._size.setText(size_text(self.format(), run))

    def _on_changed(self) -> None:
        self.show_run(self._run)
        self.changed.emit()
