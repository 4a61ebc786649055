"""Tables: rows of plain values in a model and a view dressed like the rest of the window; and facts in two columns."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFrame,
    QGridLayout,
    QHeaderView,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from qlora_studio.ui.kit.text import Label, tooltip
from qlora_studio.ui.kit.theme import active_theme

_Index = QModelIndex | QPersistentModelIndex
ROW_HEIGHT = 30
_TURN_SECONDS = 0.01  # of copying, between which the window answers
_LINES_AT_ONCE = 64
_NUMBERS_SIZE = (520, 420)
_MEASURED_ROWS = 48  # the first, and the last one, say how wide a column is: to ask all takes too long to bear
_ROLES = Qt.ItemDataRole
_FEW_CHANGED = 32
_KEPT_WIDTHS, _LONGEST = 10_000, 256  # texts, and characters of one
_TOLD = frozenset(
    (_ROLES.DisplayRole, _ROLES.AccessibleTextRole, _ROLES.ToolTipRole, _ROLES.TextAlignmentRole, _ROLES.ForegroundRole)
)


@dataclass(frozen=True)
class Column:
    """A column: its heading, how a value becomes text, and where it stands. `tone` gives a row's colour token.

    `share` is the part of the table's width that the column takes at most; `least` are the pixels that one that takes
    the rest has in any case.
    """

    title: str
    text: Callable[[Any], str]
    right: bool = False
    stretch: bool = False
    share: float = 0.0
    least: int = 0
    tone: Callable[[Any], str] | None = None
    tip: Callable[[Any], str] | None = None


class TableModel(QAbstractTableModel):
    """Rows of any objects behind columns. Texts reach the view as plain text."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self._rows: Sequence[Any] = ()

    def set_rows(self, rows: Sequence[Any]) -> None:
        """Show other rows. More rows after the same ones are inserted, and a few that differ take the place of those
        before, so that selection and scroll stay.
        """
        old, new = len(self._rows), len(rows)
        if 0 < old < new and rows[0] == self._rows[0] and rows[old - 1] == self._rows[old - 1]:
            self.beginInsertRows(QModelIndex(), old, new - 1)
            self._rows = rows
            self.endInsertRows()
        elif (changed := _changed(self._rows, rows)) is not None:
            self._rows = rows
            for row in changed:
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(self.columns) - 1))
        else:
            self.beginResetModel()
            self._rows = rows
            self.endResetModel()

    def rows(self) -> Sequence[Any]:
        """Return the objects of all rows."""
        return self._rows

    def row(self, index: int) -> Any:
        """Return the object of a row."""
        return self._rows[index]

    def rowCount(self, parent: _Index | None = None) -> int:
        """Return the number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: _Index | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if role not in _TOLD:
            return None  # Qt asks for ten roles a cell: what has no answer costs no row
        column = self.columns[index.column()]
        match role:
            case Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignVCenter | _side(column)
            case Qt.ItemDataRole.ForegroundRole:
                tone = column.tone
                return QColor(getattr(active_theme(), tone(self._rows[index.row()]) or "text")) if tone else None
            case Qt.ItemDataRole.ToolTipRole:
                return tooltip((column.tip or column.text)(self._rows[index.row()]))
        return column.text(self._rows[index.row()])

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's heading."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section].title
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignVCenter | _side(self.columns[section])
        return None


class Table(QTableView):
    """A view of a TableModel: whole rows, no grid, copy with Ctrl+C as tab-separated text.

    Signals:
        copied: the clipboard has the rows; how many.
    """

    copied = Signal(int)

    def __init__(self, model: TableModel, *, name: str) -> None:
        super().__init__()
        self._shown = model
        self._wanted: dict[int, int] = {}  # pixels by column; none until the table is seen
        self._widths: dict[str, int] = {}  # of texts
        self._padding = 0  # around each
        self._lines: Iterator[str] = iter(())  # what is still to be copied
        self._text: list[str] = []
        self._more = QTimer(self)
        self._more.setSingleShot(True)
        self._more.timeout.connect(self._copy_some)
        self.setModel(model)
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setFixedHeight(ROW_HEIGHT)
        modes = QHeaderView.ResizeMode
        for index, column in enumerate(model.columns):
            header.setSectionResizeMode(index, modes.Stretch if column.stretch else modes.Fixed)
        model.modelReset.connect(self._measure)
        model.rowsInserted.connect(self._measure)
        model.dataChanged.connect(self._measure)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give columns their part of the new width."""
        super().resizeEvent(event)
        self.share_width()

    def showEvent(self, event: QShowEvent) -> None:
        """Measure columns that were not while the table was hidden."""
        super().showEvent(event)
        if not self._wanted:
            self._measure()

    def changeEvent(self, event: QEvent) -> None:
        """Measure anew in another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._widths.clear()
            QTimer.singleShot(0, self, self._measure)  # when the heading wears it, too

    def share_width(self) -> None:
        """Give columns what they want, or their parts of the width; one that takes the rest has its least, and the
        table is moved then.
        """
        room, columns = self.viewport().width(), self._shown.columns
        for index, wanted in self._wanted.items():
            share = columns[index].share
            self.setColumnWidth(index, min(wanted, int(share * room)) if share else wanted)
        modes = QHeaderView.ResizeMode
        for index, column in enumerate(columns):
            if not column.least:
                continue
            left = room - sum(self._width(other) for other in range(len(columns)) if other != index)
            self.horizontalHeader().setSectionResizeMode(index, modes.Stretch if left >= column.least else modes.Fixed)
            if left < column.least:
                self.setColumnWidth(index, column.least)

    def _width(self, index: int) -> int:
        return 0 if self.isColumnHidden(index) else self.columnWidth(index)

    def _measure(self) -> None:
        """Measure how wide columns want to be, by some of the rows: Qt's own way takes ten times as long, and asks for
        it again whenever it lays something out.
        """
        self._wanted.clear()
        if not self.isVisible():
            return
        rows = [self._shown.row(at) for at in _measured_rows(self._shown.rowCount())]
        if rows and not self._widths:
            text = self._shown.columns[0].text(rows[0])
            self._padding = self.sizeHintForIndex(self._shown.index(0, 0)).width() - self._text_width(text) + 1
        elif len(self._widths) > _KEPT_WIDTHS:
            self._widths.clear()
        for index, column in enumerate(self._shown.columns):
            if not column.stretch:
                widest = max((self._text_width(column.text(row)) for row in rows), default=0)
                self._wanted[index] = max(widest + self._padding, self.horizontalHeader().sectionSizeHint(index))
        self.share_width()

    def _text_width(self, text: str) -> int:
        width = self._widths.get(text)
        if width is None:
            width = self._widths[text] = self.fontMetrics().horizontalAdvance(text[:_LONGEST])
        return width

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy the selected rows, or all of them where none is selected."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def copy(self) -> None:
        """Put the heading and the selected rows, or all, on the clipboard as tab-separated text: many bit by bit."""
        self._more.stop()
        self._lines, self._text = self._copied_lines(), []
        self._copy_some()

    def _copied_lines(self) -> Iterator[str]:
        rows, columns = self._shown.rows(), self._shown.columns
        texts = [column.text for column in columns]
        yield "\t".join(column.title for column in columns)
        for index in self._chosen():
            row = rows[index]
            yield "\t".join([text(row) for text in texts])

    def _chosen(self) -> Sequence[int]:
        """The selected rows in their order; all where none is selected. By ranges: a hundred thousand take no time."""
        selection = self.selectionModel().selection()
        ranges = [selection.at(index) for index in range(selection.size())]
        chosen = {row for part in ranges for row in range(part.top(), part.bottom() + 1)}
        return sorted(chosen) or range(self._shown.rowCount())

    def _copy_some(self) -> None:
        until = time.monotonic() + _TURN_SECONDS
        while some := list(islice(self._lines, _LINES_AT_ONCE)):
            self._text += some
            if time.monotonic() > until:
                self._more.start(0)
                return
        text, self._text = self._text, []
        QGuiApplication.clipboard().setText("\n".join(text))
        self.copied.emit(len(text) - 1)


class NumbersDialog(QDialog):
    """The table behind a plot, in a window of its own: Esc closes it."""

    def __init__(self, parent: QWidget, title: str, columns: Sequence[Column], rows: Sequence[Any]) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(*_NUMBERS_SIZE)
        self.model = TableModel(columns)
        self.model.set_rows(rows)
        box = QVBoxLayout(self)
        box.addWidget(Table(self.model, name=title))


def _changed(before: Sequence[Any], now: Sequence[Any]) -> list[int] | None:
    """Return which rows are others now; None where all are to be shown anew: another number of them, or many others."""
    if before == now:
        return []
    if len(before) != len(now) or not isinstance(now, tuple | list):
        return None
    others = (
        row for row, (one, other) in enumerate(zip(before, now, strict=True)) if one is not other and one != other
    )
    changed = list(islice(others, _FEW_CHANGED + 1))
    return changed if len(changed) <= _FEW_CHANGED else None


def _measured_rows(count: int) -> list[int]:
    return sorted({*range(min(count, _MEASURED_ROWS)), *range(max(0, count - 1), count)})


def _side(column: Column) -> Qt.AlignmentFlag:
    return Qt.AlignmentFlag.AlignRight if column.right else Qt.AlignmentFlag.AlignLeft


class FactGrid(QWidget):
    """Shows pairs of a word and a value. All texts are plain."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(18)
        self._grid.setVerticalSpacing(7)
        self._grid.setColumnStretch(1, 1)
        self._facts: tuple[tuple[str, str], ...] = ()
        self._labels: list[tuple[Label, Label]] = []

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these pairs; a pair without a value is left out."""
        self._facts = tuple((word, value) for word, value in facts if value)
        while len(self._labels) < len(self._facts):
            self._add_line()
        for index, (word, value) in enumerate(self._labels):
            known = index < len(self._facts)
            word.setVisible(known)
            value.setVisible(known)
            if known:
                word.setText(self._facts[index][0])
                value.setText(self._facts[index][1])

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what is shown."""
        return self._facts

    def _add_line(self) -> None:
        word, value = Label("", "muted"), Label("", wrap=True, selectable=True)
        line = len(self._labels)
        self._grid.addWidget(word, line, 0)
        self._grid.addWidget(value, line, 1)
        self._labels.append((word, value))
