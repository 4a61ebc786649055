"""What a plot shows, and its picture: which ranges of its axes, which curves, and where the crosshair reads.

What is drawn is kept as a picture, so that the crosshair moves without drawing 100,000 points anew; where drawing
takes long, the picture of before is shown for a turn of the event loop.
"""

from dataclasses import replace

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, QTimer
from PySide6.QtGui import QPainter, QPixmap
from PySide6.QtWidgets import QSizePolicy, QWidget

from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.curves.drawing_time import DRAWING_TIME
from qlora_studio.ui.curves.extent import Range, x_extent, y_extent
from qlora_studio.ui.curves.frame import RIGHT, Frame, frame_of
from qlora_studio.ui.curves.legend import legend_areas
from qlora_studio.ui.curves.painting import paint_plot
from qlora_studio.ui.curves.reading import Reading, nearest_x, reading
from qlora_studio.ui.curves.summary import summary
from qlora_studio.ui.kit.theme import Theme, active_theme

HEIGHT = 236
_LONG = 10_000  # points; a plot with fewer is drawn at once
_REACH = 7.0  # pixels around the crosshair within which marks are told


class PlotSurface(QWidget):
    """Shows a Plot. Without chosen ranges it follows: all of x, and y as the curves need it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._plot = Plot("", ())
        self._all_x: Range = (0.0, 1.0)
        self._x: Range | None = None
        self._y: Range | None = None
        self._cross: float | None = None
        self._is_brief = False
        self._picture = QPixmap()
        self._is_stale = True
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._draw_soon)
        self._theme = active_theme()
        self._frame: Frame | None = None
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(120)
        self.setLayoutDirection(Qt.LayoutDirection.LeftToRight)  # numbers rise to the right in every language

    def show_plot(self, plot: Plot, all_x: Range | None = None) -> None:
        """Show another plot; `all_x` is the whole range of x, where it is that of several plots together."""
        if plot.log != self._plot.log:
            self._y = None
        self._plot, self._all_x = replace(plot, hidden=self._plot.hidden), all_x or x_extent([plot])
        if self._cross is not None:
            self._cross = nearest_x([self._plot], self._cross)
        self._describe()
        self._redraw()

    def plot(self) -> Plot:
        """Return what is shown."""
        return self._plot

    def hide_curves(self, names: frozenset[str]) -> None:
        """Hide the curves of these names, and show the others."""
        if names != self._plot.hidden:
            self._plot = replace(self._plot, hidden=names)
            self._describe()
            self._redraw()

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
            self._describe()
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

    def paint_in(self, painter: QPainter, place: QRectF, theme: Theme) -> None:
        """Paint what is shown, without the crosshair, on another surface."""
        paint_plot(painter, self._plot, self._frame_in(place), place, theme)

    def is_following(self) -> bool:
        """Whether all is shown, whatever comes."""
        return self._x is None and self._y is None

    def sizeHint(self) -> QSize:
        """Return a height that leaves room for the cards below."""
        return QSize(480, HEIGHT)

    def resizeEvent(self, event: QEvent) -> None:
        """Draw for another size."""
        self._redraw()

    def changeEvent(self, event: QEvent) -> None:
        """Draw in another theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._redraw()

    def description(self) -> str:
        """Return what is shown in words, for screen readers: what the crosshair reads, else what the curves come to."""
        told = self.reading() if self._cross is not None else None
        return told.as_text() if told is not None else summary(self._plot)

    def _describe(self) -> None:
        self.setAccessibleDescription(self.description())

    def _frame_in(self, place: QRectF) -> Frame:
        """Return where what values lie on another surface."""
        x = self._x or self._all_x
        return frame_of(self._plot, place, x, self._y or y_extent(self._plot, x))

    def _legend(self) -> dict[str, QRectF]:
        return legend_areas(self._plot, self.width() - RIGHT)

    def _redraw(self) -> None:
        self._is_stale, self._frame = True, None
        self._soon.start()

    def _draw_soon(self) -> None:
        """Draw in a turn of its own, whatever else came with the points; who paints before that draws at once."""
        if self.isVisible():
            self._draw()
        self.update()

    def _draw(self) -> None:
        """Draw the picture anew where something in it changed; in a later turn, where others took the time of this."""
        ratio = self.devicePixelRatioF()
        if not self._is_stale and self._picture.devicePixelRatio() == ratio and self._theme is active_theme():
            return
        if DRAWING_TIME.is_over() and sum(len(curve.x) for curve in self._plot.shown) > _LONG:
            self._is_stale = True
            QTimer.singleShot(0, self, self.update)
            return
        self._theme, self._is_stale = active_theme(), False
        self._picture = QPixmap(self.size() * ratio)
        self._picture.setDevicePixelRatio(ratio)
        self._picture.fill(Qt.GlobalColor.transparent)
        with DRAWING_TIME.counted():
            painter = QPainter(self._picture)
            paint_plot(painter, self._plot, self.frame(), QRectF(self.rect()), self._theme)
            painter.end()
