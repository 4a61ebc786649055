"""The models that are on this computer already: one calm line, and a list behind it."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent

from qlora_studio.core.words import say
from qlora_studio.storage.models.local_models import LocalModel
from qlora_studio.ui.kit.tables import ROW_HEIGHT, Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card
from qlora_studio.ui.model.local_view import LocalLine, local_places, local_title

_MOST_ROWS = 8
_NARROW = 600
_MEMORY = say("Graphics memory of a run with these settings")
_COLUMNS = (
    Column(say("Model"), lambda line: line.model.name, stretch=True, least=140, tip=lambda line: line.remark),
    Column(say("In"), lambda line: line.model.keeper),
    Column(say("On disk"), lambda line: line.size, right=True),
    Column(say("Memory"), lambda line: line.needs, right=True, tip=lambda _line: _MEMORY),
    Column(say("This card"), lambda line: line.fit, tone=lambda line: line.tone, tip=lambda line: line.remark),
)


class LocalModels(Card):
    """Shows nothing where there are none.

    Signals:
        opened: the list was unfolded; what a run on each takes is wanted now.
        source_requested: the user takes a model.
    """

    opened = Signal()
    source_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__(" ")
        self._places = Label("", "caption")
        self.show_button = Button(say("Show"), "small", checkable=True)
        self.use_selected = Button(say("Use it"), "small", tip=say("Choose the selected model"))
        for part in (self._places, self.use_selected, self.show_button):
            self.add_header(part)
        self.lines = TableModel(_COLUMNS)
        self.table = Table(self.lines, name=say("Models on this computer"))
        self._remark = Label("", "caption", wrap=True)
        self.add(self.table, self._remark)
        self.show_button.toggled.connect(self._on_toggled)
        self.table.activated.connect(lambda _index: self._use())
        self.table.selectionModel().selectionChanged.connect(self._on_selection_changed)
        self.use_selected.clicked.connect(self._use)
        self._on_toggled(False)
        self.hide()

    def render_models(self, models: Sequence[LocalModel]) -> None:
        """Show how many there are, and whose."""
        self.title_label.setText(local_title(models))
        self._places.setText(local_places(models))
        self.setVisible(bool(models))

    def render_lines(self, lines: Sequence[LocalLine]) -> None:
        """Show them with what each takes."""
        chosen = [line.model for line in self._selected()]
        self.lines.set_rows(tuple(lines))
        self.table.setFixedHeight((1 + min(len(lines), _MOST_ROWS)) * ROW_HEIGHT + 2)
        for row, line in enumerate(lines):
            if line.model in chosen:
                self.table.selectRow(row)
        self._on_selection_changed()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave out whose each is where it is narrow: the title row says it of all."""
        super().resizeEvent(event)
        self.table.setColumnHidden(1, event.size().width() < _NARROW)
        self.table.share_width()

    def _on_toggled(self, unfolded: bool) -> None:
        self.show_button.setText(say("Hide") if unfolded else say("Show"))
        for part in (self.table, self.use_selected):
            part.setVisible(unfolded)
        self._on_selection_changed()
        if unfolded:
            self.opened.emit()

    def _on_selection_changed(self) -> None:
        line = next(iter(self._selected()), None)
        self.use_selected.setEnabled(line is not None and not line.refused)
        self._remark.setText(line.remark if line else "")
        self._remark.setVisible(line is not None and self.show_button.isChecked())

    def _use(self) -> None:
        for line in self._selected():
            if not line.refused:
                self.source_requested.emit(line.model.source)

    def _selected(self) -> list[LocalLine]:
        return [self.lines.row(index.row()) for index in self.table.selectionModel().selectedRows()[:1]]
