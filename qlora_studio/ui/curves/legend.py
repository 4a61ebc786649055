"""The legend at the head of a plot: its title, a line for each curve, a mark for each kind of mark."""

from collections.abc import Iterator
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPolygonF

from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.kit.theme import Theme, sans_font

PEN_STYLES = {
    "solid": Qt.PenStyle.SolidLine,
    "dash": Qt.PenStyle.DashLine,
    "dot": Qt.PenStyle.DotLine,
    "dash-dot": Qt.PenStyle.DashDotLine,
}
_ROW = 20.0
_SYMBOL = 18.0
_GAP = 16.0
_PALE = 0.55
_INSET = 6.0  # beside the ring of the focus


@dataclass(frozen=True)
class _Entry:
    """A word of the legend and the shape before it; the title has none. `curve` is the name of the curve it is of."""

    word: str
    shape: str = ""
    token: str = "text"
    curve: str = ""
    is_hidden: bool = False


def legend_height(plot: Plot, width: float) -> float:
    """Return how high the legend is at a width: it breaks into lines."""
    return _ROW * len({top for _, _, top in _placed(plot, width)})


def legend_areas(plot: Plot, width: float) -> dict[str, QRectF]:
    """Return where in the legend each curve has its entry, by name."""
    return {
        entry.curve: QRectF(left, top, min(_entry_width(entry), width - left), _ROW)
        for entry, left, top in _placed(plot, width)
        if entry.curve
    }


def paint_legend(painter: QPainter, plot: Plot, place: QRectF, theme: Theme) -> None:
    """Paint the legend at the top of a place; what is hidden is pale and struck out."""
    painter.save()
    for entry, left, top in _placed(plot, place.width()):
        x, middle = place.left() + left, place.top() + top + _ROW / 2
        painter.setOpacity(_PALE if entry.is_hidden else 1.0)
        symbol = _symbol_width(entry)
        if symbol:
            paint_symbol(painter, entry.shape, QPointF(x + (symbol - 6) / 2, middle), symbol - 6, theme, entry.token)
        painter.setFont(_font(entry))
        metrics = QFontMetricsF(painter.font())
        painter.setPen(theme.color("muted" if entry.shape else "text"))
        word = metrics.elidedText(entry.word, Qt.TextElideMode.ElideRight, place.width() - left - symbol)
        painter.drawText(QPointF(x + symbol, middle + metrics.capHeight() / 2), word)
    painter.restore()


def paint_symbol(painter: QPainter, shape: str, middle: QPointF, width: float, theme: Theme, token: str) -> None:
    """Paint a curve's line, with its ring where it has rings, or a mark's triangle or diamond around a point."""
    color, half = theme.color(token), QPointF(width / 2, 0)
    if shape == "triangle":
        paint_corners(painter, middle, ((0, -4.5), (4.5, 3.5), (-4.5, 3.5)), color, None)
    elif shape == "diamond":
        paint_corners(painter, middle, ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)), theme.color("panel"), color)
    else:
        painter.setPen(QPen(color, 2, PEN_STYLES["dash" if shape == "ring" else shape]))
        painter.drawLine(middle - half, middle + half)
    if shape == "ring":
        painter.setPen(QPen(color, 1.6))
        painter.setBrush(theme.color("panel"))
        painter.drawEllipse(middle, 3.5, 3.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def paint_corners(
    painter: QPainter, middle: QPointF, corners: tuple[tuple[float, float], ...], inside: QColor, edge: QColor | None
) -> None:
    """Paint a shape with corners around a point."""
    painter.setPen(QPen(edge, 2) if edge else Qt.PenStyle.NoPen)
    painter.setBrush(inside)
    painter.drawPolygon(QPolygonF([middle + QPointF(x, y) for x, y in corners]))
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _placed(plot: Plot, width: float) -> Iterator[tuple[_Entry, float, float]]:
    left, top = _INSET, 0.0
    for entry in _entries(plot):
        wide = _entry_width(entry)
        if left > _INSET and left + wide > width:
            left, top = _INSET, top + _ROW
        yield entry, left, top
        left += wide + _GAP


def _entries(plot: Plot) -> Iterator[_Entry]:
    if plot.title:
        yield _Entry(f"{plot.title}, {plot.unit}" if plot.unit else plot.title)
    for curve in plot.curves if len(plot.curves) > 1 else ():
        line, is_hidden = "ring" if curve.rings else curve.line, curve.name in plot.hidden
        yield _Entry(curve.name, line, curve.token, curve.name, is_hidden)
    kinds = {mark.kind: mark for mark in plot.marks if mark.kind and not plot.is_empty}
    for kind, mark in kinds.items():
        shape = mark.shape if mark.shape != "line" else "dot" if mark.faint else "dash-dot"
        yield _Entry(kind, shape, mark.token)


def _entry_width(entry: _Entry) -> float:
    return _symbol_width(entry) + QFontMetricsF(_font(entry)).horizontalAdvance(entry.word)


def _symbol_width(entry: _Entry) -> float:
    if not entry.shape:
        return 0.0
    return _SYMBOL if entry.shape in ("triangle", "diamond") else _SYMBOL + 10


def _font(entry: _Entry) -> QFont:
    font = sans_font(12, QFont.Weight.Normal if entry.shape else QFont.Weight.DemiBold)
    font.setStrikeOut(entry.is_hidden)
    return font
