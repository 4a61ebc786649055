"""How a plot is painted: axes and curves by pyqtgraph, marks and legend over them.

The same on the screen, in a picture and in a drawing.
"""

import math
from collections.abc import Iterable

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from qlora_studio.ui.curves.chart import paint_chart
from qlora_studio.ui.curves.curve import Curve, Mark, Plot
from qlora_studio.ui.curves.frame import Frame
from qlora_studio.ui.curves.legend import PEN_STYLES, paint_legend, paint_symbol
from qlora_studio.ui.kit.theme import Theme, sans_font

_LABEL_ROWS = 3


def paint_plot(painter: QPainter, plot: Plot, frame: Frame, place: QRectF, theme: Theme) -> None:
    """Paint a plot; an empty one says so and has no axes."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(sans_font(11))
    paint_legend(painter, plot, place, theme)
    area, metrics = frame.area, QFontMetricsF(painter.font())
    painter.setPen(theme.color("muted"))
    if plot.is_empty:
        painter.drawText(area, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), plot.nothing)
        return
    end = area.right() - metrics.horizontalAdvance(plot.x_title)
    painter.drawText(QPointF(end, area.bottom() + 8 + metrics.ascent()), plot.x_title)
    lines = _lines_in(frame, plot.marks)
    for left, mark in lines:
        painter.setPen(QPen(theme.color(mark.token), 1, PEN_STYLES["dot" if mark.faint else "dash-dot"]))
        painter.drawLine(QPointF(left, area.top()), QPointF(left, area.bottom()))
    paint_chart(painter, plot, frame, theme)
    _paint_labels(painter, lines, frame, theme)
    for curve in plot.shown:
        if curve.rings:
            _paint_rings(painter, curve, frame, theme)
    for mark in plot.marks:
        if mark.shape != "line":
            _paint_mark(painter, mark, frame, theme)


def _lines_in(frame: Frame, marks: Iterable[Mark]) -> list[tuple[float, Mark]]:
    """Return the marks that are lines across and in sight, with their places."""
    lines = sorted((mark for mark in marks if mark.shape == "line"), key=lambda mark: mark.x)
    placed = [(round(frame.left_of(mark.x)) + 0.5, mark) for mark in lines]
    return [(left, mark) for left, mark in placed if frame.area.left() <= left <= frame.area.right() + 1]


def _paint_labels(painter: QPainter, lines: list[tuple[float, Mark]], frame: Frame, theme: Theme) -> None:
    """Paint what lines are called, over the grid, which would strike it through.

    A label that would lie over another stands a row lower, or is left to the pointer.
    """
    metrics = QFontMetricsF(painter.font())
    taken = [frame.area.left()] * _LABEL_ROWS
    for left, mark in lines:
        width = metrics.horizontalAdvance(mark.label)
        start = left + 4 if left + 4 + width <= frame.area.right() else left - 4 - width
        row = next((row for row, end in enumerate(taken) if end <= start), None)
        if mark.label and row is not None:
            taken[row] = start + width + 8
            painter.setPen(theme.color(mark.token))
            painter.drawText(QPointF(start, frame.area.top() + metrics.ascent() + row * metrics.height()), mark.label)


def _paint_rings(painter: QPainter, curve: Curve, frame: Frame, theme: Theme) -> None:
    painter.setPen(QPen(theme.color(curve.token), 2))
    painter.setBrush(theme.color("panel"))
    for left, top in frame.points(curve.x, curve.y).tolist():
        place = QPointF(left, top)
        if frame.shows(place):
            painter.drawEllipse(place, 4, 4)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _paint_mark(painter: QPainter, mark: Mark, frame: Frame, theme: Theme) -> None:
    left = frame.left_of(mark.x)
    if not frame.area.left() - 1 <= left <= frame.area.right() + 1:
        return
    base = frame.area.bottom()
    height = frame.top_of(mark.y) if mark.shape == "diamond" else base
    height = base if math.isnan(height) else height
    top = min(max(height, frame.area.top() + 6), base - 6)  # one that lies beyond the range stands at its edge
    paint_symbol(painter, mark.shape, QPointF(left, top), 0, theme, mark.token)
