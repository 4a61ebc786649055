"""The plot of one metric of a run. Imports pyqtgraph, so it is imported after the first paint and never at start.

What is drawn: the raw values thin, their moving average thick, evaluation points dashed with rings, triangles where a
checkpoint is safe, a dotted line at each epoch, a dash-dotted one with its reason where a fault was got over or the
rate lowered, diamonds at spikes, at the upper edge where they lie beyond it. At most about 2,000 points a curve, pens
that Qt draws fast (PyQtGraph issue 533: a wide antialiased line of 10,000 points takes half a second unless it is drawn
in segments).
"""

from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QWheelEvent

from qlora_studio.core.run.metric_history import Floats, decimated
from qlora_studio.ui.kit.fields import number_text
from qlora_studio.ui.kit.theme import Theme, active_theme, sans_font


@dataclass(frozen=True)
class PlotData:
    """What a plot shows: arrays of shape (n,), steps for the triangles and the epoch lines, and the run's last step."""

    x: Floats
    raw: Floats
    smooth: Floats | None = None
    evaluation_x: Floats | None = None
    evaluation_y: Floats | None = None
    checkpoints: tuple[int, ...] = ()
    epochs: tuple[tuple[int, float], ...] = ()
    end: float = 0.0
    token: str = "weights"
    marks: tuple[tuple[int, str], ...] = ()
    spikes: tuple[tuple[int, float], ...] = ()


class MetricPlot(pg.PlotWidget):  # type: ignore[misc]
    """Draws PlotData. The wheel belongs to the page; the pointer reads values.

    Signals:
        pointed: the step under the pointer, -1 when it leaves.
    """

    pointed = Signal(int)

    def __init__(self, name: str) -> None:
        super().__init__(axisItems={"left": _Axis("left"), "bottom": _Axis("bottom")})
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)
        self._data: PlotData | None = None
        self._log = False
        self._lines: list[pg.InfiniteLine] = []
        self._lined: object = None
        self._raw = self.plot(connect="finite", antialias=True)
        self._smooth = self.plot(connect="finite", antialias=True)
        self._smooth.curve.setSegmentedLineMode("on")
        self._evaluation = self.plot(connect="finite", antialias=True, symbol="o", symbolSize=9, pxMode=True)
        self._checkpoints = pg.ScatterPlotItem(symbol="t1", size=9, pxMode=True)
        self._spikes = pg.ScatterPlotItem(symbol="d", size=12, pxMode=True)
        for points in (self._checkpoints, self._spikes):
            self.addItem(points, ignoreBounds=True)
        self._theme_name = ""
        self._dress()
        self.scene().sigMouseMoved.connect(self._on_mouse_moved)

    def show_data(self, data: PlotData, *, log: bool = False) -> None:
        """Draw other data."""
        self._data = data
        if log != self._log:
            self._log = log
            self.setLogMode(x=False, y=log)
        if self._theme_name != active_theme().name + data.token:
            self._dress()
        smooth = data.smooth
        self._raw.setData(*_drawable(data.x, data.raw))
        self._smooth.setData(*(_drawable(data.x, smooth) if smooth is not None else ([], [])))
        if data.evaluation_x is not None and data.evaluation_y is not None:
            self._evaluation.setData(*_drawable(data.evaluation_x, data.evaluation_y))
        else:
            self._evaluation.setData([], [])
        self._fit_ranges(data)

    def sizeHint(self) -> QSize:
        """Return a height that leaves room for the cards below."""
        return QSize(480, 236)

    def leaveEvent(self, event: object) -> None:
        """Tell that the pointer left."""
        super().leaveEvent(event)
        self.pointed.emit(-1)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()

    def changeEvent(self, event: object) -> None:
        """Take the colours of another theme."""
        super().changeEvent(event)
        if getattr(self, "_theme_name", "") and not self._theme_name.startswith(active_theme().name):
            self._dress()

    def _fit_ranges(self, data: PlotData) -> None:
        low, high = _bounds(data, self._log)
        pad = 0.06 * (high - low) or abs(high) * 0.05 or 1e-9
        bottom = low - 2.2 * pad if data.checkpoints else low - pad
        last = float(data.x[-1]) if len(data.x) else 1.0
        end = max(data.end, last, 1.0)
        self.setXRange(0.0, end, padding=0.015)
        self.setYRange(bottom, high + pad, padding=0)
        row = [bottom + 0.5 * pad] * len(data.checkpoints)
        self._checkpoints.setData(x=list(data.checkpoints), y=row)
        top = high + 0.35 * pad
        heights = [min(np.log10(max(loss, 1e-12)) if self._log else loss, top) for _, loss in data.spikes]
        self._spikes.setData(x=[step for step, _ in data.spikes], y=heights)
        self._draw_lines(data)

    def _draw_lines(self, data: PlotData) -> None:
        """Draw the lines across the plot where they are others than before."""
        wanted = (data.epochs, data.marks, active_theme().name)
        if wanted == self._lined:
            return
        self._lined = wanted
        for line in self._lines:
            self.removeItem(line)
        epochs = [_line(x, f"epoch {number}", "muted", Qt.PenStyle.DotLine, 0.97) for number, x in data.epochs]
        marks = [_line(step, label, "warn", Qt.PenStyle.DashDotLine, 0.86) for step, label in data.marks]
        self._lines = [*epochs, *marks]
        for line in self._lines:
            self.addItem(line, ignoreBounds=True)
            line.label.setFont(sans_font(11))

    def _dress(self) -> None:
        theme = active_theme()
        token = self._data.token if self._data else "weights"
        self._theme_name = theme.name + token
        color = theme.color(token)
        faint = QColor(color)
        faint.setAlphaF(0.4 if self._data is None or self._data.smooth is not None else 1.0)
        self.setBackground(theme.color("panel"))
        self._raw.setPen(pg.mkPen(faint, width=1))
        self._smooth.setPen(pg.mkPen(color, width=2))
        self._evaluation.setPen(pg.mkPen(theme.color("logits"), width=2, style=Qt.PenStyle.DashLine))
        self._evaluation.setSymbolPen(pg.mkPen(theme.color("logits"), width=2))
        self._evaluation.setSymbolBrush(pg.mkBrush(theme.color("panel")))
        self._checkpoints.setPen(None)
        self._checkpoints.setBrush(pg.mkBrush(theme.color("ok")))
        for side in ("left", "bottom"):
            _dress_axis(self.getAxis(side), theme)
        self._spikes.setPen(pg.mkPen(theme.color("bad"), width=2))
        self._spikes.setBrush(pg.mkBrush(theme.color("panel")))
        if self._data is not None and self._lines:
            self._draw_lines(self._data)

    def _on_mouse_moved(self, position: QPointF) -> None:
        box = self.getViewBox()
        inside = box.sceneBoundingRect().contains(position)
        self.pointed.emit(max(0, round(box.mapSceneToView(position).x())) if inside else -1)


class _Axis(pg.AxisItem):  # type: ignore[misc]
    """Numbers as people write them, no SI prefix, no ticks."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self.enableAutoSIPrefix(False)
        self.setStyle(tickLength=0, tickTextOffset=8, maxTickLevel=0, autoExpandTextSpace=side == "left")
        if side == "left":
            self.setWidth(44)

    def tickSpacing(self, minimum: float, maximum: float, size: float) -> list[tuple[float, float]]:
        """Return one level of ticks, about 48 pixels apart, 96 below the plot, at 1, 2 or 5 times a power of ten."""
        least = (maximum - minimum) * (48 if self.orientation == "left" else 96) / max(size, 1.0)
        power = 10.0 ** np.floor(np.log10(max(least, 1e-12)))
        spacing = next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least)
        return [(max(spacing, 1.0) if self.orientation == "bottom" else spacing, 0.0)]

    def generateDrawSpecs(self, painter: object) -> object:
        """Leave out the line of the left axis: the grid is enough."""
        specs = super().generateDrawSpecs(painter)
        if specs is None or self.orientation != "left":
            return specs
        (_pen, start, end), ticks, texts = specs
        return (pg.mkPen(None), start, end), ticks, texts

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Return the numbers at the ticks."""
        if self.logMode:
            return [f"{10**value:.3g}" for value in values]
        if spacing >= 1:
            return [f"{value:,.0f}" for value in values]
        if spacing < 1e-3:
            return [number_text(float(f"{value:.6g}")) for value in values]
        decimals = max(1, -int(np.floor(np.log10(spacing))))
        return [f"{value:.{decimals}f}" for value in values]

    def logTickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Return the numbers at the ticks of a logarithmic axis."""
        return [f"{10**value:.3g}" for value in np.array(values)]


def _line(x: float, label: str, token: str, style: Qt.PenStyle, position: float) -> pg.InfiniteLine:
    """Return a line from top to bottom with its label beside it, as plain text."""
    color = active_theme().color(token)
    options = {"position": position, "color": color, "anchors": [(0, 0), (0, 0)]}
    return pg.InfiniteLine(x, angle=90, pen=pg.mkPen(color, width=1, style=style), label=label, labelOpts=options)


def _dress_axis(axis: pg.AxisItem, theme: Theme) -> None:
    axis.setPen(pg.mkPen(theme.color("grid"), width=1))
    axis.setTextPen(theme.color("muted"))
    axis.setTickFont(sans_font(11))
    if axis.orientation == "left":
        axis.setGrid(255)
        axis.setZValue(-1000)  # the grid lies below the curves


def _drawable(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return decimated(x, y)


def _bounds(data: PlotData, log: bool) -> tuple[float, float]:
    """Return the least and the largest value; single outliers of the raw curve do not flatten the rest."""
    raw = data.raw[np.isfinite(data.raw)]
    parts = [np.percentile(raw, [0.5, 99.5])] if len(raw) else []
    for more in (data.smooth, data.evaluation_y):
        if more is not None and np.isfinite(more).any():
            parts.append(more[np.isfinite(more)])
    if not parts:
        return 0.0, 1.0
    values = np.concatenate(parts)
    if log:
        values = np.log10(np.maximum(values, 1e-12))
    return float(values.min()), float(values.max())
