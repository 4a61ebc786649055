"""How a plot is painted: axes, curves, marks, legend. The same on the screen, in a picture and in a drawing."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen, QPolygonF

from qlora_studio.core.run.metric_history import Floats, decimated
from qlora_studio.ui.curves.clipping import inside, part_between
from qlora_studio.ui.curves.curve import Curve, Mark, Plot
from qlora_studio.ui.curves.extent import Range
from qlora_studio.ui.curves.legend import PEN_STYLES, legend_height, paint_legend, paint_symbol
from qlora_studio.ui.curves.scale import log_texts, tick_texts, ticks
from qlora_studio.ui.kit.theme import Theme, sans_font

_LEFT, _RIGHT, _BELOW, _ABOVE = 50.0, 10.0, 24.0, 6.0
_STRIP = 14.0  # for the triangles above the x axis
_TICK_GAP = {"x": 70.0, "y": 44.0}
_FAINT = 0.38  # of the values behind their average
_LABEL_ROWS = 3
_DENSE, _MANY = 6.0, 200  # pixels between points, and points, of a line that Qt joins fast


@dataclass(frozen=True)
class Frame:
    """Where a plot's values lie on a surface: `area` shows the ranges. On a logarithmic axis so do the logarithms."""

    area: QRectF
    x: Range
    y: Range
    log: bool = False
    strip: float = 0.0

    def left_of(self, x: float) -> float:
        """Return where an x lies, in pixels."""
        return self.area.left() + (x - self.x[0]) / (self.x[1] - self.x[0]) * self.area.width()

    def top_of(self, y: float) -> float:
        """Return where a y lies, in pixels."""
        return float(self.points(np.array([self.x[0]]), np.array([y]))[0, 1])

    def x_at(self, left: float) -> float:
        """Return the x at a place."""
        return self.x[0] + (left - self.area.left()) / self.area.width() * (self.x[1] - self.x[0])

    def y_at(self, top: float) -> float:
        """Return the y at a place."""
        low, high = np.log10(self.y) if self.log else self.y
        value = low + (self.area.bottom() - self.strip - top) / (self.area.height() - self.strip) * (high - low)
        return float(10.0**value if self.log else value)

    def points(self, x: Floats, y: Floats) -> Floats:
        """Return places in pixels, shape (n, 2); what a logarithmic axis cannot show is NaN."""
        low, high = np.log10(self.y) if self.log else self.y
        if self.log:
            y = np.log10(np.where(y > 0, y, np.nan))
        left = self.area.left() + (x - self.x[0]) / (self.x[1] - self.x[0]) * self.area.width()
        top = self.area.bottom() - self.strip - (y - low) / (high - low) * (self.area.height() - self.strip)
        return np.stack([left, top], axis=1)


def frame_of(plot: Plot, place: QRectF, x: Range, y: Range) -> Frame:
    """Return the frame of a plot on a surface: what legend and numbers leave."""
    head = legend_height(plot, place.width() - _RIGHT)
    area = place.adjusted(_LEFT, head + _ABOVE, -_RIGHT, -_BELOW)
    has_triangles = any(mark.shape == "triangle" for mark in plot.marks)
    return Frame(area, x, y, plot.log, _STRIP if has_triangles else 0.0)


def paint_plot(painter: QPainter, plot: Plot, frame: Frame, place: QRectF, theme: Theme) -> None:
    """Paint a plot; an empty one says so and has no axes."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(sans_font(11))
    paint_legend(painter, plot, place, theme)
    if plot.is_empty:
        painter.setPen(theme.color("muted"))
        painter.drawText(frame.area, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), plot.nothing)
        return
    _paint_axes(painter, plot, frame, theme)
    _paint_lines(painter, [mark for mark in plot.marks if mark.shape == "line"], frame, theme)
    for curve in plot.curves:
        _paint_curve(painter, curve, frame, theme)
    for mark in plot.marks:
        if mark.shape != "line":
            _paint_mark(painter, mark, frame, theme)


def _paint_axes(painter: QPainter, plot: Plot, frame: Frame, theme: Theme) -> None:
    area = frame.area
    metrics = QFontMetricsF(painter.font())
    most = int((area.height() - frame.strip) / _TICK_GAP["y"])
    values = ticks(*frame.y, most, log=plot.log)
    for value, text in zip(values, (log_texts if plot.log else tick_texts)(values), strict=True):
        top = round(frame.top_of(value)) + 0.5
        painter.setPen(QPen(theme.color("grid"), 1))
        painter.drawLine(QPointF(area.left(), top), QPointF(area.right(), top))
        painter.setPen(theme.color("muted"))
        painter.drawText(
            QPointF(area.left() - 8 - metrics.horizontalAdvance(text), top + metrics.capHeight() / 2), text
        )
    painter.setPen(QPen(theme.color("control_line"), 1))
    base = round(area.bottom()) + 0.5
    painter.drawLine(QPointF(area.left(), base), QPointF(area.right(), base))
    _paint_x_numbers(painter, plot, frame, theme)


def _paint_x_numbers(painter: QPainter, plot: Plot, frame: Frame, theme: Theme) -> None:
    """Paint what x counts at the right end, and the numbers that do not reach into it."""
    area, metrics = frame.area, QFontMetricsF(painter.font())
    base = area.bottom() + 8 + metrics.ascent()
    end = area.right() - metrics.horizontalAdvance(plot.x_title)
    painter.setPen(theme.color("muted"))
    painter.drawText(QPointF(end, base), plot.x_title)
    values = ticks(*frame.x, int((end - area.left()) / _TICK_GAP["x"]), whole=plot.whole)
    for value, text in zip(values, tick_texts(values), strict=True):
        left, width = frame.left_of(value), metrics.horizontalAdvance(text)
        if left + width / 2 > end - 8:
            break
        painter.setPen(QPen(theme.color("control_line"), 1))
        painter.drawLine(QPointF(left, area.bottom()), QPointF(left, area.bottom() + 4))
        painter.setPen(theme.color("muted"))
        painter.drawText(QPointF(left - width / 2, base), text)


def _paint_lines(painter: QPainter, marks: list[Mark], frame: Frame, theme: Theme) -> None:
    """Paint lines across; a label that would lie over another stands a row lower, or is left to the pointer."""
    metrics = QFontMetricsF(painter.font())
    taken = [frame.area.left()] * _LABEL_ROWS
    for mark in sorted(marks, key=lambda mark: mark.x):
        left = round(frame.left_of(mark.x)) + 0.5
        if not frame.area.left() <= left <= frame.area.right() + 1:
            continue
        color = theme.color(mark.token)
        painter.setPen(QPen(color, 1, PEN_STYLES["dot" if mark.faint else "dash-dot"]))
        painter.drawLine(QPointF(left, frame.area.top()), QPointF(left, frame.area.bottom()))
        width = metrics.horizontalAdvance(mark.label)
        start = left + 4 if left + 4 + width <= frame.area.right() else left - 4 - width
        row = next((row for row, end in enumerate(taken) if end <= start), None)
        if mark.label and row is not None:
            taken[row] = start + width + 8
            painter.setPen(color)
            painter.drawText(QPointF(start, frame.area.top() + metrics.ascent() + row * metrics.height()), mark.label)


def _paint_curve(painter: QPainter, curve: Curve, frame: Frame, theme: Theme) -> None:
    color = theme.color(curve.token)
    style = PEN_STYLES[curve.line]
    if curve.smooth is None:
        _paint_values(painter, curve.x, curve.y, frame, QPen(color, 1.6, style))
    else:
        faint = QColor(color)
        faint.setAlphaF(_FAINT)
        _paint_values(painter, curve.x, curve.y, frame, QPen(faint, 1))
        _paint_values(painter, curve.x, curve.smooth, frame, QPen(color, 2, style))
    if curve.rings:
        painter.setPen(QPen(color, 2))
        painter.setBrush(theme.color("panel"))
        for point in _visible(frame.points(*part_between(curve.x, curve.y, *frame.x)), frame):
            painter.drawEllipse(QPointF(*point), 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def _paint_values(painter: QPainter, x: Floats, y: Floats, frame: Frame, pen: QPen) -> None:
    """Paint a line through points: one a pixel, of each two pixels the extremes. A point by itself is a dot."""
    area = frame.area
    few = decimated(*part_between(x, y, *frame.x), max(200, int(area.width())))
    lines = inside(frame.points(*few), area.left(), area.top(), area.right(), area.bottom())
    _paint_segments(painter, [line for line in lines if len(line) > 1], pen)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(pen.color())
    for line in lines:
        if len(line) == 1:
            painter.drawEllipse(QPointF(*line[0]), 2.5, 2.5)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _paint_segments(painter: QPainter, lines: list[Floats], pen: QPen) -> None:
    """Paint lines segment by segment: joined by Qt, a dense one takes 50 times as long. Sparse dashes stay Qt's."""
    segments: list[QLineF] = []
    painter.setPen(pen)
    engine = painter.paintEngine()
    for line in lines:
        points = [QPointF(left, top) for left, top in line.tolist()]
        lengths = np.hypot(*np.diff(line, axis=0).T)
        is_dashed = pen.style() != Qt.PenStyle.SolidLine
        if engine.type() == engine.Type.SVG or (is_dashed and lengths.mean() > _DENSE and len(points) < _MANY):
            painter.drawPolyline(QPolygonF(points))
            continue
        seen = _dashes(lengths, pen).tolist()
        segments += [QLineF(*ends) for ends, on in zip(pairwise(points), seen, strict=True) if on]
    painter.setPen(QPen(pen.color(), pen.widthF(), Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap))
    painter.drawLines(segments)


def _dashes(lengths: Floats, pen: QPen) -> NDArray[np.bool_]:
    """Return which segments of a dense line are seen: those that begin in a dash of the pattern, in pixels."""
    if pen.style() == Qt.PenStyle.SolidLine:
        return np.ones(len(lengths), dtype=bool)
    pattern = 2 * np.array(pen.dashPattern())
    ends = np.cumsum(pattern)
    seen: NDArray[np.bool_] = np.searchsorted(ends, np.cumsum(lengths) % ends[-1], "right") % 2 == 0
    return seen


def _paint_mark(painter: QPainter, mark: Mark, frame: Frame, theme: Theme) -> None:
    left = frame.left_of(mark.x)
    if not frame.area.left() - 1 <= left <= frame.area.right() + 1:
        return
    base = frame.area.bottom()
    height = frame.top_of(mark.y) if mark.shape == "diamond" else base
    top = min(max(height, frame.area.top() + 6), base - 6)  # one that lies beyond the range stands at its edge
    paint_symbol(painter, mark.shape, QPointF(left, top), 0, theme, mark.token)


def _visible(points: Floats, frame: Frame) -> list[tuple[float, float]]:
    area = frame.area.adjusted(-1, -1, 1, 1)
    return [(x, y) for x, y in points.tolist() if area.left() <= x <= area.right() and area.top() <= y <= area.bottom()]
