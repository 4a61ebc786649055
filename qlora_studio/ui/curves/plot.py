"""A plot to look into: drag to zoom, the wheel on an axis, double-click for all of it again; a crosshair reads values.

The wheel elsewhere belongs to the page. All of it goes by keyboard too: left and right move the crosshair, + and - zoom
around it, 0 shows all, up and down choose a curve of the legend, which Space hides and shows; Enter opens the table
behind the plot.
"""

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent

from qlora_studio.core.words import say
from qlora_studio.ui.curves.extent import FLAT, Range, moved, zoomed
from qlora_studio.ui.curves.frame import Frame
from qlora_studio.ui.curves.numbers import PlotRows, plot_columns
from qlora_studio.ui.curves.reading import neighbour_x
from qlora_studio.ui.curves.readout import paint_crosshair
from qlora_studio.ui.curves.surface import PlotSurface
from qlora_studio.ui.kit.tables import NumbersDialog
from qlora_studio.ui.kit.text import set_tooltip
from qlora_studio.ui.kit.theme import active_theme

_LEAST_DRAG = 6.0  # pixels
_NARROW = 16.0  # a drag that is lower than this zooms along x alone, and a narrower one along y
_NOTCH_FACTOR = 0.8
_FAR = 10  # points that an arrow key moves with Shift
_HELP = say(
    "Drag to zoom; with Shift, or the middle button, drag to move along. The wheel zooms on an axis, a double-click "
    "shows all. Click a name of the legend to hide its curve. Enter opens the numbers as a table."
)


class CurvePlot(PlotSurface):
    """A PlotSurface that mouse and keyboard reach.

    Signals:
        view_chosen: the user zoomed, or follows again; carries the range of x, None for all of it.
        pointed: the x of the crosshair, or None where there is none.
        hidden_chosen: the user hid or showed a curve; carries the names of all that are hidden.
    """

    view_chosen = Signal(object)
    pointed = Signal(object)
    hidden_chosen = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._from: QPointF | None = None
        self._to = QPointF()
        self._grip: tuple[QPointF, Frame] | None = None
        self._picked = ""
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the picture of the plot, and what follows the pointer."""
        painter = QPainter(self)
        self._draw()
        painter.drawPixmap(0, 0, self._picture)
        theme, told = active_theme(), self.reading() if not self._is_stale else None
        if self._from is not None:
            band = QColor(theme.color("accent"))
            painter.setPen(QPen(band, 1))
            band.setAlphaF(0.15)
            painter.fillRect(self._band(), band)
            painter.drawRect(self._band())
        elif told is not None and not self._plot.is_empty:
            paint_crosshair(painter, told, self.frame(), theme, brief=self._is_brief)
        if self.hasFocus():
            painter.setPen(QPen(theme.color("accent"), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
            if (picked := self._legend().get(self._picked)) is not None:
                painter.drawRoundedRect(picked.adjusted(-4, 0.5, 4, -0.5), 4, 4)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to drag, or hide a curve."""
        place, button = event.position(), event.button()
        if button == Qt.MouseButton.LeftButton and (name := self._name_at(place)) is not None:
            self._toggle(name)
        elif not self.frame().area.contains(place):
            return
        elif button == Qt.MouseButton.MiddleButton or event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._grip = None if self.is_following() else (place, self.frame())
        elif button == Qt.MouseButton.LeftButton:
            self._from = self._to = place
        self._show_cursor(place)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag, or point."""
        if self._from is not None:
            self._to = event.position()
            self.update()
            return
        if self._grip is not None:
            self._move_along(*self._grip, event.position())
            return
        self._show_cursor(event.position())
        area = self.frame().area.adjusted(-4, 0, 4, 0)
        self.pointed.emit(self.frame().x_at(event.position().x()) if area.contains(event.position()) else None)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Zoom to what was dragged over, or let go."""
        self._grip = None
        self._show_cursor(event.position())
        if self._from is None or event.button() != Qt.MouseButton.LeftButton:
            return
        way, band, frame = self._to - self._from, self._band(), self.frame()
        self._from = None
        self.update()
        if max(abs(way.x()), abs(way.y())) < _LEAST_DRAG:
            return
        if abs(way.x()) >= _NARROW or abs(way.y()) < _NARROW:
            self._choose_x((frame.x_at(band.left()), frame.x_at(band.right())))
        if abs(way.y()) >= _NARROW:
            self._choose_y((frame.y_at(band.bottom()), frame.y_at(band.top())))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show all again."""
        self._from = None
        if self._name_at(event.position()) is None:
            self.follow()
        else:  # two clicks on a name, and it is as it was
            self.mousePressEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        """Take the crosshair away with the pointer."""
        self.pointed.emit(None)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Take the crosshair of the keyboard away."""
        super().focusOutEvent(event)
        self._picked = ""
        self._describe()
        self.pointed.emit(None)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom where the pointer is over an axis; elsewhere the wheel scrolls the page."""
        frame, place = self.frame(), event.position()
        factor = _NOTCH_FACTOR ** (event.angleDelta().y() / 120)
        if self._plot.is_empty or frame.area.contains(place) or place.y() < frame.area.top():
            event.ignore()
        elif place.y() > frame.area.bottom():
            self._choose_x(zoomed(frame.x, frame.x_at(place.x()), factor))
        elif place.x() < frame.area.left():
            self._choose_y(zoomed(frame.y, frame.y_at(place.y()), factor, log=frame.log))
        else:
            event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the crosshair, zoom, show all, or go through the legend."""
        key, far = event.key(), event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        moves = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Home: -(10**9), Qt.Key.Key_End: 10**9}
        frame = self.frame()
        start = self._cross if self._cross is not None else frame.x[0 if key == Qt.Key.Key_Home else 1]
        if key in moves:
            by = moves[Qt.Key(key)] * (_FAR if far else 1)
            self._point_at(neighbour_x([self._plot], start, by if self._cross is not None else min(0, by + 1)))
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down) and self._legend():
            self._pick(-1 if key == Qt.Key.Key_Up else 1)
        elif key == Qt.Key.Key_Return and not self._plot.is_empty:
            self._show_numbers()
        elif key == Qt.Key.Key_Space and self._picked in self._legend():
            self._toggle(self._picked)
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self._choose_x(zoomed(frame.x, start, _NOTCH_FACTOR))
        elif key == Qt.Key.Key_Minus:
            self._choose_x(zoomed(frame.x, start, 1 / _NOTCH_FACTOR))
        elif key in (Qt.Key.Key_0, Qt.Key.Key_Escape) and not self.is_following():
            self.follow()
        else:
            super().keyPressEvent(event)

    def description(self) -> str:
        """Say of the curve that is picked in the legend what Space does with it, before all else."""
        words = super().description()
        if self._picked in self._plot.hidden:
            return say("{name} is hidden: Space shows it. {rest}", name=self._picked, rest=words)
        if self._picked:
            return say("{name} is shown: Space hides it. {rest}", name=self._picked, rest=words)
        return words

    def follow(self) -> None:
        """Show all from now on."""
        self.show_x(None)
        self.view_chosen.emit(None)

    def _show_numbers(self) -> None:
        title = self._plot.title or self.accessibleName()
        NumbersDialog(self, title, plot_columns(self._plot), PlotRows(self._plot)).open()

    def _point_at(self, x: float | None) -> None:
        """Put the crosshair somewhere by the keyboard; what is zoomed to goes along with it."""
        if x is not None and self._x is not None and not self._x[0] <= x <= self._x[1]:
            self._x = moved(self._x, x - self._x[0 if x < self._x[0] else 1], self._all_x)
            self._redraw()
            self.view_chosen.emit(self._x)
        self.pointed.emit(x)

    def _move_along(self, start: QPointF, frame: Frame, place: QPointF) -> None:
        """Show what lies beside, on the axes that were zoomed; what was taken hold of stays below the hand."""
        way, area = place - start, frame.area
        if self._x is not None:
            self._x = moved(frame.x, frame.x_at(area.left() - way.x()) - frame.x[0], self._all_x)
        if self._y is not None:
            self._y = (frame.y_at(area.bottom() - frame.strip - way.y()), frame.y_at(area.top() - way.y()))
        self._redraw()
        self.view_chosen.emit(self._x)

    def _name_at(self, place: QPointF) -> str | None:
        """Return the curve whose entry of the legend is at a place."""
        return next((name for name, area in self._legend().items() if area.contains(place)), None)

    def _toggle(self, name: str) -> None:
        self.hide_curves(self._plot.hidden ^ {name})
        self.hidden_chosen.emit(self._plot.hidden)

    def _pick(self, by: int) -> None:
        names = list(self._legend())
        at = names.index(self._picked) + by if self._picked in names else 0 if by > 0 else -1
        self._picked = names[at % len(names)]
        self._describe()
        self.update()

    def _show_cursor(self, place: QPointF) -> None:
        """Show by the pointer what a press does; beside the curves, a tooltip says what can be done at all."""
        is_within = self.frame().area.contains(place)
        shape = Qt.CursorShape.ArrowCursor
        if self._grip is not None:
            shape = Qt.CursorShape.ClosedHandCursor
        elif self._name_at(place) is not None:
            shape = Qt.CursorShape.PointingHandCursor
        if self.cursor().shape() != shape:
            self.setCursor(shape)
        help = "" if is_within or self._plot.is_empty else _HELP
        if bool(help) != bool(self.toolTip()):
            set_tooltip(self, help)

    def _choose_x(self, wanted: Range) -> None:
        """Zoom along x within what there is; what is all of it follows again."""
        low, high = max(wanted[0], self._all_x[0]), min(wanted[1], self._all_x[1])
        least = 2.0 if self._plot.whole else (self._all_x[1] - self._all_x[0]) * 1e-6
        if high - low < least:
            middle = min(max((low + high) / 2, self._all_x[0] + least / 2), self._all_x[1] - least / 2)
            low, high = middle - least / 2, middle + least / 2
        if (low, high) == self._all_x or high - low >= self._all_x[1] - self._all_x[0]:
            self.follow()
            return
        self.show_x((low, high))
        self.view_chosen.emit((low, high))

    def _choose_y(self, wanted: Range) -> None:
        if wanted[1] - wanted[0] > FLAT * max(abs(wanted[0]), abs(wanted[1])):
            self._y = wanted
            self._redraw()
            self.view_chosen.emit(self._x)

    def _band(self) -> QRectF:
        """Return what is dragged over: across all of the other axis where the drag is narrow."""
        area, start, end = self.frame().area, self._from or QPointF(), self._to
        band = QRectF(start, end).normalized()
        if band.height() < _NARROW:
            band.setTop(area.top())
            band.setBottom(area.bottom())
        elif band.width() < _NARROW:
            band.setLeft(area.left())
            band.setRight(area.right())
        return band & area
