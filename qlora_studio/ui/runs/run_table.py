"""The table of runs: columns that can be chosen, an order by any of them, and as many runs selected as one likes."""

from collections.abc import Collection, Sequence
from pathlib import Path

from PySide6.QtCore import QItemSelection, QItemSelectionModel, Qt, Signal

from qlora_studio.core.quantity import bytes_text, count_text, energy_text
from qlora_studio.core.words import say
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.runs.view import COLUMNS, name_tip, ordered
from qlora_studio.ui.state.run_line import RunLine, when_text

_NAME_WIDTH = 150  # pixels, at least
_CELLS = {
    "name": Column(COLUMNS["name"], lambda line: line.name, stretch=True, least=_NAME_WIDTH, tip=name_tip),
    "model": Column(COLUMNS["model"], lambda line: line.model),
    "state": Column(
        COLUMNS["state"],
        lambda line: line.words,
        tone=lambda line: line.tone,
        tip=lambda line: line.remark or line.elsewhere or line.state,
    ),
    "steps": Column(COLUMNS["steps"], lambda line: line.steps, right=True),
    "loss": Column(COLUMNS["loss"], lambda line: line.loss, right=True),
    "when": Column(COLUMNS["when"], lambda line: when_text(line.when)),
    "size": Column(COLUMNS["size"], lambda line: "–" if line.size is None else bytes_text(line.size), right=True),
    "tags": Column(COLUMNS["tags"], lambda line: ", ".join(line.label.tags)),
    "rank": Column(COLUMNS["rank"], lambda line: "–" if line.problem else str(line.rank), right=True),
    "parameters": Column(
        COLUMNS["parameters"], lambda line: count_text(line.parameters) if line.parameters else "–", right=True
    ),
    "energy": Column(
        COLUMNS["energy"],
        lambda line: "–" if line.energy_joules is None else energy_text(line.energy_joules),
        right=True,
    ),
    "folder": Column(COLUMNS["folder"], lambda line: Path(line.path).name, tip=lambda line: line.path),
}
_NAMES = tuple(_CELLS)


class RunTable(Table):
    """Shows runs in an order.

    Signals:
        order_requested: the user clicked a column's heading; its name.
        chosen: other runs are selected.
    """

    order_requested = Signal(str)
    chosen = Signal()

    def __init__(self) -> None:
        self.rows = TableModel(tuple(_CELLS.values()))
        super().__init__(self.rows, name=say("Runs"))
        self._order, self._descending = "", False
        self._restoring, self._awaited = False, ""
        header = self.horizontalHeader()
        header.setSectionsClickable(True)
        header.setCursor(Qt.CursorShape.PointingHandCursor)
        header.sectionClicked.connect(lambda index: self.order_requested.emit(_NAMES[index]))
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.selectionModel().selectionChanged.connect(self._on_selection_changed)

    def show_order(self, column: str, *, descending: bool) -> None:
        """Order the runs by a column from now on, and mark its heading; by none, as they come."""
        self._order, self._descending = column, descending
        header = self.horizontalHeader()
        header.setSortIndicatorShown(bool(column))
        if column:
            orders = Qt.SortOrder
            header.setSortIndicator(
                _NAMES.index(column), orders.DescendingOrder if descending else orders.AscendingOrder
            )

    def show_columns(self, columns: Collection[str], spare: Sequence[str] = ()) -> set[str]:
        """Show these columns, and of the `spare` ones, given last first, as many as there is room for; return which."""
        shown = {*columns}
        self._hide_others(shown)
        for name in spare:
            if self.horizontalHeader().length() <= self.viewport().width():
                break
            shown.discard(name)
            self._hide_others(shown)
        return shown

    def _hide_others(self, columns: Collection[str]) -> None:
        for index, name in enumerate(_NAMES):
            self.setColumnHidden(index, name not in columns)
        self.share_width()

    def show_runs(self, lines: Sequence[RunLine]) -> None:
        """Show these runs; those that are selected stay so where they are still there, else the next one is."""
        chosen = {line.path for line in self.selected()}
        before = min((index.row() for index in self.selectionModel().selectedRows()), default=0)
        self._restoring = True
        self.rows.set_rows(ordered(lines, self._order, descending=self._descending))
        self._select(chosen, before)
        self._restoring = False
        self._select_awaited()
        self.chosen.emit()

    def choose(self, path: str) -> None:
        """Select a run alone: now, or as soon as it is in the list, unless the user selects another one meanwhile."""
        self._awaited = path
        self._select_awaited()

    def selected(self) -> tuple[RunLine, ...]:
        """Return the runs that are selected, in their order."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return tuple(self.rows.row(row) for row in rows)

    def _select_awaited(self) -> None:
        if self._awaited and self._awaited in (line.path for line in self.rows.rows()):
            self._select([self._awaited], 0)
            self._awaited = ""

    def _select(self, paths: Collection[str], instead: int) -> None:
        """Select runs; the one of another row where none of them is there any more."""
        model = self.selectionModel()
        shown = range(self.rows.rowCount())
        there = [row for row in shown if self.rows.row(row).path in paths]
        row = min(instead, len(shown) - 1)
        wanted = there or list(shown[row : row + 1])
        if wanted == sorted(index.row() for index in model.selectedRows()):
            return
        selection = QItemSelection()
        for row in wanted:
            selection.select(self.rows.index(row, 0), self.rows.index(row, len(_NAMES) - 1))
        flags = QItemSelectionModel.SelectionFlag
        if wanted:
            model.setCurrentIndex(self.rows.index(wanted[0], 0), flags.NoUpdate)
        model.select(selection, flags.ClearAndSelect | flags.Rows)

    def _on_selection_changed(self) -> None:
        if not self._restoring:
            self._awaited = ""
            self.chosen.emit()
