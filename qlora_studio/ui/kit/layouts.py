"""Layouts that follow the room there is: rows that break, parts side by side or stacked, tiles, scrolled content."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from PySide6.QtCore import QMargins, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QGridLayout, QLayout, QLayoutItem, QSizePolicy, QStyle, QWidget
from shiboken6 import isValid

from qlora_studio.ui.kit.fonts import scaled
from qlora_studio.ui.kit.widgets import row

BREAKPOINT = 700


def dismiss(widget: QWidget) -> None:
    """Take a widget out of sight now, and delete it when Qt comes to it: it may be at work."""
    widget.hide()
    widget.deleteLater()


@contextmanager
def still(part: QWidget) -> Iterator[None]:
    """Lay a part out once, after all that is shown, hidden and filled in it here: Qt would for every single widget."""
    layouts = [layout for layout in part.findChildren(QLayout) if layout.isEnabled()]
    for layout in layouts:
        layout.setEnabled(False)
    try:
        yield
    finally:
        living = [layout for layout in layouts if isValid(layout)]
        for layout in living:
            layout.setEnabled(True)
        for layout in reversed(living):  # those within others first
            if isinstance(widget := layout.parent(), QWidget) and widget.isVisible():
                layout.activate()  # one that was shown meanwhile would not be laid out before something else changes


class FlowRow(QWidget):
    """Holds widgets; asks for the width of one line and gets along with less."""

    def __init__(self, *widgets: QWidget, spacing: int = 8) -> None:
        super().__init__()
        self._flow = _FlowLayout(self, spacing)
        for widget in widgets:
            self._flow.addWidget(widget)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def add(self, widget: QWidget) -> None:
        """Add a widget at the end."""
        self._flow.addWidget(widget)


class _FlowLayout(QLayout):
    """After Qt's own example of a flow layout."""

    def __init__(self, parent: QWidget, spacing: int) -> None:
        super().__init__(parent)
        self._items: list[QLayoutItem] = []
        self._gap = spacing
        self._known: dict[object, QSize] = {}  # Qt asks again and again until something changes
        self.setContentsMargins(QMargins())

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        return True

    def invalidate(self) -> None:
        self._known.clear()
        super().invalidate()

    def heightForWidth(self, width: int) -> int:
        return self._kept(width, lambda: QSize(width, self._place(QRect(0, 0, width, 0), move=False))).height()

    def setGeometry(self, rect: QRect) -> None:
        super().setGeometry(rect)
        self._place(rect, move=True)

    def sizeHint(self) -> QSize:
        return self._kept("hint", self._in_one_line)

    def minimumSize(self) -> QSize:
        return self._kept("least", self._widest_and_highest)

    def _kept(self, name: object, measure: Callable[[], QSize]) -> QSize:
        if name not in self._known:
            self._known[name] = measure()
        return self._known[name]

    def _in_one_line(self) -> QSize:
        sizes = [item.sizeHint() for item in self._shown()]
        width = sum(size.width() for size in sizes) + self._gap * max(0, len(sizes) - 1)
        return QSize(width, max((size.height() for size in sizes), default=0))

    def _widest_and_highest(self) -> QSize:
        sizes = [item.minimumSize() for item in self._shown()]
        return QSize(
            max((size.width() for size in sizes), default=0), max((size.height() for size in sizes), default=0)
        )

    def _place(self, rect: QRect, *, move: bool) -> int:
        """Set the items in lines, each in the middle of its line; return the height of all."""
        lines = self._lines(rect.width())
        heights = [max(_fitted(item, rect.width()).height() for item in line) for line in lines]
        height = sum(heights) + self._gap * max(0, len(lines) - 1)
        top = rect.y() + max(0, rect.height() - height) // 2
        for line, line_height in zip(lines if move else [], heights, strict=False):
            left = rect.x()
            for item in line:
                size = _fitted(item, rect.width())
                place = QRect(QPoint(left, top + (line_height - size.height()) // 2), size)
                item.setGeometry(QStyle.visualRect(self._direction(), rect, place))
                left += size.width() + self._gap
            top += line_height + self._gap
        return height

    def _lines(self, width: int) -> list[list[QLayoutItem]]:
        lines: list[list[QLayoutItem]] = []
        left = 0
        for item in self._shown():
            size = item.sizeHint().width()
            if not lines or left + size > width:
                lines.append([])
                left = 0
            lines[-1].append(item)
            left += size + self._gap
        return lines

    def _direction(self) -> Qt.LayoutDirection:
        parent = self.parentWidget()
        return parent.layoutDirection() if parent is not None else Qt.LayoutDirection.LeftToRight

    def _shown(self) -> list[QLayoutItem]:
        return [item for item in self._items if not item.isEmpty()]


def _fitted(item: QLayoutItem, width: int) -> QSize:
    """Return the size of an item in a line; one that is wider than the line gets along with that, if need be higher."""
    size = item.sizeHint()
    if size.width() <= width:
        return size
    return QSize(width, item.heightForWidth(width) if item.hasHeightForWidth() else size.height())


class SideBySide(QWidget):
    """Lays out parts in a row from `breakpoint` pixels on, in a column below that. `shares` divides the row."""

    def __init__(
        self, *parts: QWidget, shares: tuple[int, ...] = (), breakpoint: int = BREAKPOINT, spacing: int = 14
    ) -> None:
        super().__init__()
        self._breakpoint = breakpoint
        self._shares = shares or (1,) * len(parts)
        self._box: QBoxLayout = row(self, spacing=spacing)
        for part in parts:
            part.setSizePolicy(QSizePolicy.Policy.Ignored, part.sizePolicy().verticalPolicy())
            self._box.addWidget(part)
        self._arrange(wide=True)

    def minimumSizeHint(self) -> QSize:
        """Ask for no width, for the parts go below each other first, nor for the height that they had then."""
        height = 0 if self._box.hasHeightForWidth() else super().minimumSizeHint().height()
        return QSize(0, height)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Turn the row into a column, or back."""
        super().resizeEvent(event)
        wide = event.size().width() >= self._breakpoint
        if wide != (self._box.direction() == QBoxLayout.Direction.LeftToRight):
            self._arrange(wide=wide)

    def _arrange(self, *, wide: bool) -> None:
        directions = QBoxLayout.Direction
        self._box.setDirection(directions.LeftToRight if wide else directions.TopToBottom)
        for index, share in enumerate(self._shares):
            self._box.setStretch(index, share if wide else 0)


class TileGrid(QWidget):
    """Widgets of equal width in rows: as many of `columns` as leave each at least `least` pixels, at the usual text."""

    def __init__(self, widgets: Sequence[QWidget], *, columns: Sequence[int], least: int, spacing: int = 10) -> None:
        super().__init__()
        self._widgets = tuple(widgets)
        self._columns, self._least = sorted(columns, reverse=True), least
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(spacing)
        self._now = 0
        self._arrange(self._columns[0])

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the number of columns."""
        super().resizeEvent(event)
        width = event.size().width() + self._grid.spacing()
        least = scaled(self._least)
        fitting = [n for n in self._columns if width >= n * (least + self._grid.spacing())]
        self._arrange(fitting[0] if fitting else self._columns[-1])

    def _arrange(self, columns: int) -> None:
        if columns == self._now:
            return
        for index, widget in enumerate(self._widgets):
            self._grid.addWidget(widget, index // columns, index % columns)
        for index in range(max(columns, self._now)):
            self._grid.setColumnStretch(index, 1 if index < columns else 0)
        self._now = columns


class ScrolledContent(QWidget):
    """Is as high as its layout needs at its width, and not as high as it would be at its narrowest."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("surface", "clear")

    def minimumSizeHint(self) -> QSize:
        """Leave the height to `heightForWidth` where the layout has one."""
        hint, layout = super().minimumSizeHint(), self.layout()
        return QSize(hint.width(), 0) if layout is not None and layout.hasHeightForWidth() else hint
