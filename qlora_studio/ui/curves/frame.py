"""Where a plot's values lie on a surface."""

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QPointF, QRectF

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.curves.extent import Range
from qlora_studio.ui.curves.legend import legend_height

LEFT, RIGHT, BELOW, ABOVE = 50.0, 10.0, 24.0, 6.0
_STRIP = 14.0  # for the triangles above the x axis


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

    def shows(self, place: QPointF) -> bool:
        """Whether a place lies in the area, or at its edge. What is NaN lies nowhere, though to Qt it lies in any."""
        area = self.area.adjusted(-1, -1, 1, 1)
        return area.left() <= place.x() <= area.right() and area.top() <= place.y() <= area.bottom()

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
    head = legend_height(plot, place.width() - RIGHT)
    area = place.adjusted(LEFT, head + ABOVE, -RIGHT, -BELOW)
    has_triangles = any(mark.shape == "triangle" for mark in plot.marks)
    return Frame(area, x, y, plot.log, _STRIP if has_triangles else 0.0)
