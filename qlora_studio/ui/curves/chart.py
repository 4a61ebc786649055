"""The axes, the grid and the curves of a plot, by pyqtgraph.

Nothing of it is ever shown or sees the mouse: its scene is painted into the picture that CurvePlot keeps, over which
the crosshair moves without drawing 100,000 points anew. pyqtgraph takes a tenth of a second to import, so no module
that the first paint waits for imports this one.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPaintEngine, QPainter, QPen

from qlora_studio.core.run.metric_history import Floats, decimated
from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.frame import ABOVE, BELOW, LEFT, RIGHT, Frame
from qlora_studio.ui.curves.legend import PEN_STYLES
from qlora_studio.ui.curves.scale import log_texts, tick_texts, ticks
from qlora_studio.ui.kit.theme import Theme, sans_font

_TICK_GAP = {"x": 70.0, "y": 44.0}
_FAINT = 0.38  # of the values behind their average
_LONG = 8_000.0  # pixels of a dashed line: Qt takes 80 ms for 80,000


def paint_chart(painter: QPainter, plot: Plot, frame: Frame, theme: Theme) -> None:
    """Paint what of a plot lies in a frame, and the numbers at its axes."""
    _chart().paint(painter, plot, frame, theme)


class _Chart:
    """A pair of axes, laid out anew for each plot that is painted.

    All that is drawn in it is in pixels: through the scales of values, which differ for x and y, Qt draws lines that
    are wider than a pixel ten times as slowly. There is one, never deleted: a pair takes 8 ms to make.
    """

    def __init__(self) -> None:
        self._box = pg.ViewBox(enableMenu=False, invertY=True)
        self._left, self._bottom = _Axis("left"), _Axis("bottom")
        self._left.setWidth(LEFT)
        self._left.setStyle(tickLength=0, tickTextOffset=8)
        self._left.setGrid(255)
        self._left.setZValue(-1000)  # the grid lies below the curves
        self._bottom.setHeight(BELOW)
        self._bottom.setStyle(tickLength=4, tickTextOffset=4)
        self._scene = pg.GraphicsScene()
        for item in (self._box, self._left, self._bottom):
            self._scene.addItem(item)
        for axis in (self._left, self._bottom):
            axis.linkToView(self._box)

    def paint(self, painter: QPainter, plot: Plot, frame: Frame, theme: Theme) -> None:
        """Paint a plot, and leave no curve behind."""
        area = QRectF(QPointF(), frame.area.size())
        inside = replace(frame, area=area)
        self._box.setGeometry(area)
        self._box.setRange(area, padding=0)
        self._left.setGeometry(-LEFT, 0, LEFT, area.height())
        self._bottom.setGeometry(0, area.height(), area.width(), BELOW)
        self._render_y_axis(plot, inside, theme)
        self._render_x_axis(plot, inside, theme)
        in_one = painter.paintEngine().type() == QPaintEngine.Type.SVG
        for curve in plot.shown:
            for values, pen in _lines(curve, theme):
                self._add_values(curve.x, values, inside, pen, in_one=in_one)
        around = (-LEFT, -ABOVE, RIGHT, BELOW)
        self._scene.render(painter, frame.area.adjusted(*around), area.adjusted(*around))
        self._box.clear()

    def _add_values(self, x: Floats, y: Floats, frame: Frame, pen: QPen, *, in_one: bool) -> None:
        """Add a line through points: one a pixel, of each two pixels the extremes. A point by itself is a dot.

        Qt draws a dense line 50 times as fast segment by segment. Only `in_one` have short segments dashes.
        """
        first = max(0, int(np.searchsorted(x, frame.x[0], "left")) - 1)
        last = int(np.searchsorted(x, frame.x[1], "right")) + 1
        few = decimated(x[first:last], y[first:last], max(200, int(frame.area.width())))
        left, top = frame.points(*few).T
        if pen.style() != Qt.PenStyle.SolidLine:
            in_one = in_one or np.nansum(np.abs(np.diff(top))) < _LONG
        line = pg.PlotCurveItem(left, top, pen=pen, connect="finite", antialias=True)
        line.setSegmentedLineMode("off" if in_one else "on")
        self._box.addItem(line)
        gap = ~np.isfinite(top)
        alone = ~gap & np.append(True, gap[:-1]) & np.append(gap[1:], True)
        if alone.any():
            dots = {"size": 5, "pen": None, "brush": pen.color(), "antialias": True, "useCache": False}
            self._box.addItem(pg.ScatterPlotItem(left[alone], top[alone], **dots))

    def _render_y_axis(self, plot: Plot, frame: Frame, theme: Theme) -> None:
        values = ticks(*frame.y, int((frame.area.height() - frame.strip) / _TICK_GAP["y"]), log=plot.log)
        texts = (log_texts if plot.log else tick_texts)(values)
        self._left.render([frame.top_of(value) for value in values], texts, theme)
        self._left.setPen(None)
        self._left.setTickPen(QPen(theme.color("grid"), 1))

    def _render_x_axis(self, plot: Plot, frame: Frame, theme: Theme) -> None:
        """Show the numbers that do not reach into what x counts, which stands at the right end."""
        metrics = QFontMetricsF(sans_font(11))
        end = frame.area.right() - metrics.horizontalAdvance(plot.x_title) - 8
        values = ticks(*frame.x, int((end + 8) / _TICK_GAP["x"]), whole=plot.whole)
        places, texts = [frame.left_of(value) for value in values], tick_texts(values)
        fit = sum(left + metrics.horizontalAdvance(text) / 2 <= end for left, text in zip(places, texts, strict=True))
        self._bottom.render(places[:fit], texts[:fit], theme)
        self._bottom.setPen(QPen(theme.color("control_line"), 1))


@cache
def _chart() -> _Chart:
    return _Chart()


class _Axis(pg.AxisItem):  # type: ignore[misc]
    """An axis that is told its numbers, and shows every one of them."""

    def render(self, places: Sequence[float], texts: Sequence[str], theme: Theme) -> None:
        """Show other numbers."""
        self.setTicks([list(zip(places, texts, strict=True))])
        self.setTickFont(sans_font(11))
        self.setTextPen(theme.color("muted"))

    def mapToDevice(self, place: QPointF) -> QPointF:
        """Return the place itself, where pyqtgraph asks how long the axis is: without a view it would draw none."""
        return place

    def boundingRect(self) -> QRectF:
        """Return a wide place: pyqtgraph leaves out a number that does not fit in."""
        return QRectF(super().boundingRect()).adjusted(-40, -10, 40, 10)


def _lines(curve: Curve, theme: Theme) -> list[tuple[Floats, QPen]]:
    """Return what is drawn of a curve, and how: where it has an average, the values thin behind it."""
    color, style = theme.color(curve.token), PEN_STYLES[curve.line]
    if curve.smooth is None:
        return [(curve.y, QPen(color, 1.6, style))]
    faint = QColor(color)
    faint.setAlphaF(_FAINT)
    return [(curve.y, QPen(faint, 1)), (curve.smooth, QPen(color, 2, style))]
