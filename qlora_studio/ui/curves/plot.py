"""A plot to look into: drag to zoom, the wheel on an axis, double-click for all of it again; a crosshair reads values.

What is drawn is kept as a picture, so that the crosshair moves without drawing 100,000 points anew. The wheel elsewhere
belongs to the page. All of it goes by keyboard too: arrows move the crosshair, + and - zoom around it, 0 shows all.
"""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.curves.extent import FLAT, Range, x_extent, y_extent, zoomed
from qlora_studio.ui.curves.frame import Frame, frame_of
from qlora_studio.ui.curves.painting import paint_plot
from qlora_studio.ui.curves.reading import Reading, nearest_x, neighbour_x, reading
from qlora_studio.ui.curves.readout import paint_crosshair
from qlora_studio.ui.kit.theme import Theme, active_theme

HEIGHT = 236
_LEAST_DRAG = 6.0  # pixels
_NARROW = 16.0  # a drag that is lower than this zooms along x alone, and a narrower one along y
_REACH = 7.0  # pixels around the crosshair within which marks are told
_NOTCH_FACTOR = 0.8
_FAR = 10  # points that an arrow key moves with Shift


class CurvePlot(QWidget):
    """Shows a Plot. Without chosen ranges it follows: all of x, and y as the curves need it.

    Signals:
        view_chosen: the user zoomed, or follows again; carries the range of x, None for all of it.
        pointed: the x of the crosshair, or None where there is none.
    """

    view_chosen = Signal(object)
    pointed = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._plot = Plot("", ())
        self._all_x: Range = (0.0, 1.0)
        self._x: Range | None = None
        self._y: Range | None = None
        self._cross: float | None = None
        self._is_brief = False
        self._from: QPointF | None = None
        self._to = QPointF()
        self._picture: QPixmap | None = None
        self._theme = active_theme()
        self._frame: Frame | None = None
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(120)

    def show_plot(self, plot: Plot, all_x: Range | None = None) -> None:
        """Show another plot; `all_x` is the whole range of x, where it is that of several plots together."""
        if plot.log != self._plot.log:
            self._y = None
        self._plot, self._all_x = plot, all_x or x_extent([plot])
        if self._cross is not None:
            self._cross = nearest_x([plot], self._cross)
        self._redraw()

    def plot(self) -> Plot:
        """Return what is shown."""
        return self._plot

    def shown_x(self) -> Range | None:
        """Return the chosen range of x, None where it is all."""
        return self._x

    def show_x(self, shown: Range | None) -> None:
        """Show a range of x, or follow."""
        self._x, self._y = shown, None
        self._redraw()

    def show_crosshair(self, x: float | None, *, brief: bool = False) -> None:
        """Put the crosshair at the point nearest to an x; `brief` where the pointer is over another plot."""
        cross = nearest_x([self._plot], x) if x is not None else None
        if (cross, brief) != (self._cross, self._is_brief):
            self._cross, self._is_brief = cross, brief
            told = self.reading()
            self.setAccessibleDescription(told.as_text() if told else "")
            self.update()

    def reading(self) -> Reading | None:
        """Return what the crosshair reads."""
        if self._cross is None:
            return None
        frame = self.frame()
        return reading(self._plot, self._cross, _REACH * (frame.x[1] - frame.x[0]) / max(1.0, frame.area.width()))

    def frame(self) -> Frame:
        """Return where what values lie."""
        if self._frame is None:
            self._frame = self._frame_in(QRectF(self.rect()))
        return self._frame

    def _frame_in(self, place: QRectF) -> Frame:
        """Return where what values lie on another surface."""
        x = self._x or self._all_x
        return frame_of(self._plot, place, x, self._y or y_extent(self._plot, x))

    def paint_in(self, painter: QPainter, place: QRectF, theme: Theme) -> None:
        """Paint what is shown, without the crosshair, on another surface."""
        paint_plot(painter, self._plot, self._frame_in(place), place, theme)

    def is_following(self) -> bool:
        """Whether all is shown, whatever comes."""
        return self._x is None and self._y is None

    def sizeHint(self) -> QSize:
        """Return a height that leaves room for the cards below."""
        return QSize(480, HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the picture of the plot, and what follows the pointer."""
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._drawn())
        theme, told = active_theme(), self.reading()
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
        painter.end()

    def resizeEvent(self, event: QEvent) -> None:
        """Draw for another size."""
        self._redraw()

    def changeEvent(self, event: QEvent) -> None:
        """Draw in another theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._redraw()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to drag."""
        if event.button() == Qt.MouseButton.LeftButton and self.frame().area.contains(event.position()):
            self._from = self._to = event.position()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag, or point."""
        if self._from is not None:
            self._to = event.position()
            self.update()
            return
        area = self.frame().area.adjusted(-4, 0, 4, 0)
        self.pointed.emit(self.frame().x_at(event.position().x()) if area.contains(event.position()) else None)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Zoom to what was dragged over."""
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
        self.follow()

    def leaveEvent(self, event: QEvent) -> None:
        """Take the crosshair away with the pointer."""
        self.pointed.emit(None)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Take the crosshair of the keyboard away."""
        super().focusOutEvent(event)
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
        """Move the crosshair, zoom, or show all."""
        key, far = event.key(), event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        moves = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Home: -(10**9), Qt.Key.Key_End: 10**9}
        frame = self.frame()
        start = self._cross if self._cross is not None else frame.x[0 if key == Qt.Key.Key_Home else 1]
        if key in moves:
            by = moves[Qt.Key(key)] * (_FAR if far else 1)
            self.pointed.emit(neighbour_x([self._plot], start, by if self._cross is not None else min(0, by + 1)))
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self._choose_x(zoomed(frame.x, start, _NOTCH_FACTOR))
        elif key == Qt.Key.Key_Minus:
            self._choose_x(zoomed(frame.x, start, 1 / _NOTCH_FACTOR))
        elif key in (Qt.Key.Key_0, Qt.Key.Key_Escape) and not self.is_following():
            self.follow()
        else:
            super().keyPressEvent(event)

    def follow(self) -> None:
        """Show all from now on."""
        self.show_x(None)
        self.view_chosen.emit(None)

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

    def _redraw(self) -> None:
        self._picture = self._frame = None
        self.update()

    def _drawn(self) -> QPixmap:
        """Return the picture of the plot, which is drawn where something in it changed."""
        ratio = self.devicePixelRatioF()
        if self._picture is None or self._picture.devicePixelRatio() != ratio or self._theme is not active_theme():
            self._theme = active_theme()
            self._picture = QPixmap(self.size() * ratio)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._picture)
            self.paint_in(painter, QRectF(self.rect()), self._theme)
            painter.end()
        return self._picture
