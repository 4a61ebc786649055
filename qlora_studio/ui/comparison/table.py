"""The table of a comparison: a column for each run, a line for each fact, groups of lines below their headings."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QPointF, QRect, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableView

from qlora_studio.core.words import say
from qlora_studio.ui.comparison.view import TableLine, table_text
from qlora_studio.ui.curves.curve import look
from qlora_studio.ui.curves.legend import PEN_STYLES
from qlora_studio.ui.kit.tables import ROW_HEIGHT
from qlora_studio.ui.kit.text import tooltip
from qlora_studio.ui.kit.theme import Theme, active_theme, sans_font

_Index = QModelIndex | QPersistentModelIndex
_NARROWEST, _USUAL, _WIDEST = 78, 104, 260  # pixels of a run's column
_TITLES = 210  # pixels of the titles of the lines, at most
_NAMES_HEIGHT = 54
_GAP, _EDGE, _SYMBOL = 12, 6, 28
_STRONG = QFont.Weight.DemiBold
_BEST = say("best")


class ComparisonModel(QAbstractTableModel):
    """Lines behind columns of runs."""

    def __init__(self) -> None:
        super().__init__()
        self._names: tuple[str, ...] = ()
        self._whole_names: tuple[str, ...] = ()
        self._lines: tuple[TableLine, ...] = ()

    def show(self, names: Sequence[str], whole_names: Sequence[str], lines: Sequence[TableLine]) -> None:
        """Show other runs or other lines."""
        if (tuple(whole_names), tuple(lines)) == (self._whole_names, self._lines):
            return
        self.beginResetModel()
        self._names, self._whole_names, self._lines = tuple(names), tuple(whole_names), tuple(lines)
        self.endResetModel()

    def line(self, row: int) -> TableLine:
        """Return a line."""
        return self._lines[row]

    def text(self) -> str:
        """Return all of it with tabs between the cells."""
        return table_text(self._whole_names, self._lines)

    def rowCount(self, parent: _Index | None = None) -> int:
        """Return the number of lines."""
        return 0 if parent is not None and parent.isValid() else len(self._lines)

    def columnCount(self, parent: _Index | None = None) -> int:
        """Return the number of runs."""
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def flags(self, index: _Index) -> Qt.ItemFlag:
        """Let headings be passed over."""
        return Qt.ItemFlag.NoItemFlags if self._lines[index.row()].is_heading else super().flags(index)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        line, run = self._lines[index.row()], index.column()
        if line.is_heading:
            return None
        is_best = run in line.best
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return f"{line.cells[run]}  {_BEST}" if is_best else line.cells[run]
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{self._whole_names[run]}, {line.title}: {line.cells[run]}{', the best' if is_best else ''}"
            case Qt.ItemDataRole.ToolTipRole:
                return tooltip("\n".join(filter(None, (line.cells[run], line.tip))))
            case Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
            case Qt.ItemDataRole.ForegroundRole if is_best:
                return QColor(active_theme().ok)
            case Qt.ItemDataRole.FontRole if line.other[run] or is_best:
                return sans_font(weight=_STRONG)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a run's name, or the title of a line."""
        horizontal = orientation == Qt.Orientation.Horizontal
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._names[section] if horizontal else _title(self._lines[section])
            case Qt.ItemDataRole.ToolTipRole:
                return tooltip(self._whole_names[section] if horizontal else self._lines[section].tip)
        return None


class _Header(QHeaderView):
    """Paints titles of lines, those of groups strong, and names of runs below the lines that their curves have."""

    def __init__(self, lines: ComparisonModel, orientation: Qt.Orientation) -> None:
        super().__init__(orientation)
        self._lines = lines
        self.setHighlightSections(False)
        self.setSectionsClickable(False)

    def paintSection(self, painter: QPainter, rect: QRect, index: int) -> None:
        """Paint a title or a name, and the line below it."""
        theme = active_theme()
        painter.save()
        painter.fillRect(rect.left(), rect.bottom(), rect.width(), 1, theme.color("line"))
        if self.orientation() == Qt.Orientation.Horizontal:
            self._paint_name(painter, rect, index, theme)
        else:
            self._paint_title(painter, rect, self._lines.line(index), theme)
        painter.restore()

    def _paint_title(self, painter: QPainter, rect: QRect, line: TableLine, theme: Theme) -> None:
        painter.setFont(sans_font(weight=_STRONG if line.is_heading else QFont.Weight.Normal))
        painter.setPen(theme.color("text" if line.is_heading else "muted"))
        place = rect.adjusted(6, 0, -_GAP, -3)
        text = painter.fontMetrics().elidedText(_title(line), Qt.TextElideMode.ElideRight, place.width())
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)

    def _paint_name(self, painter: QPainter, rect: QRect, index: int, theme: Theme) -> None:
        token, line = look(index)
        top, right = rect.top() + 7.0, rect.right() - _EDGE + 0.0
        painter.setPen(QPen(theme.color(token), 2, PEN_STYLES[line]))
        painter.drawLine(QPointF(right - _SYMBOL, top), QPointF(right, top))
        painter.setFont(sans_font(weight=_STRONG))
        painter.setPen(theme.color("text"))
        name, place = (
            str(self._lines.headerData(index, self.orientation())),
            rect.adjusted(_GAP // 2, 13, -_EDGE, 0),
        )
        metrics = painter.fontMetrics()
        words = name.split(" ")
        halves = [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]
        lines = [name] if metrics.horizontalAdvance(name) <= place.width() else halves
        shown = [metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, place.width()) for text in lines if text]
        painter.drawText(place, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignRight, "\n".join(shown))


class ComparisonTable(QTableView):
    """Shows lines, as high as they are together; the page scrolls, and sideways the table, its titles staying."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = ComparisonModel()
        self._wanted: list[int] = []  # widths of the columns
        self._least: list[int] = []  # with their names cut, and none of their values
        self.setModel(self.lines)
        self.setAccessibleName(say("Runs side by side"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setProperty("dense", "true")
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setCornerButtonEnabled(False)
        self.setVerticalHeader(_Header(self.lines, Qt.Orientation.Vertical))
        self.setHorizontalHeader(_Header(self.lines, Qt.Orientation.Horizontal))
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.horizontalHeader().setFixedHeight(_NAMES_HEIGHT)

    def show_lines(self, names: Sequence[str], whole_names: Sequence[str], lines: Sequence[TableLine]) -> None:
        """Show the runs of these names: short ones at the head of their columns, whole ones where there is room."""
        self.lines.show(names, whole_names, lines)
        strong = QFontMetrics(sans_font(weight=_STRONG))
        titles = max((strong.horizontalAdvance(_title(line)) for line in lines), default=0)
        self.verticalHeader().setFixedWidth(min(titles + 2 * _GAP, _TITLES))
        halves = [max(map(strong.horizontalAdvance, name.split(" "))) + _GAP // 2 + _EDGE + 2 for name in names]
        self._least = [min(max(self.sizeHintForColumn(column), _NARROWEST), _WIDEST) for column in range(len(names))]
        self._wanted = [min(max(least, half, _USUAL), _WIDEST) for least, half in zip(self._least, halves, strict=True)]
        self._fit_columns()
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(ROW_HEIGHT * len(lines) + _NAMES_HEIGHT + bar + 2)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the columns what there is room for."""
        super().resizeEvent(event)
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Cut long names before a run is out of sight; beyond, the table scrolls, with two in sight where it can be."""
        width = self.viewport().width()
        most = max(_NARROWEST, width // 2)
        spare = (width - sum(self._least)) // max(1, len(self._least))
        more = width if sum(self._wanted) <= width else max(0, spare)
        for column, (wanted, least) in enumerate(zip(self._wanted, self._least, strict=True)):
            self.setColumnWidth(column, min(wanted, most, least + more))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy the whole table."""
        if event.matches(QKeySequence.StandardKey.Copy):
            QGuiApplication.clipboard().setText(self.lines.text())
        else:
            super().keyPressEvent(event)


def _title(line: TableLine) -> str:
    return f"≠ {line.title}" if line.marked else line.title
