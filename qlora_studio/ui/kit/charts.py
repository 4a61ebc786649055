"""Small painted figures: bars of stacked parts, lines of the last two minutes, and thin progress lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from qlora_studio.ui.kit.text import set_tooltip
from qlora_studio.ui.kit.theme import active_theme


@dataclass(frozen=True)
class Part:
    """A part of a stacked bar; `token` names its colour in the theme."""

    label: str
    value: float
    token: str


class StackedBar(QWidget):
    """Parts side by side on a scale from 0 to `total`. What goes over the total ends in a red edge."""

    def __init__(self, name: str, height: int = 22) -> None:
        super().__init__()
        self._name = name
        self._parts: tuple[Part, ...] = ()
        self._total = 1.0
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(name)

    def show_parts(self, parts: Sequence[Part], total: float, text: str = "") -> None:
        """Show parts on a scale; `text` says the same in words, for the tooltip and for screen readers."""
        if tuple(parts) == self._parts and total == self._total:
            return
        self._parts, self._total = tuple(parts), max(float(total), 1.0)
        self.setAccessibleDescription(text)
        set_tooltip(self, text)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the track, the parts and, where they exceed it, the edge."""
        theme, painter = active_theme(), _painter(self)
        area = QRectF(self.rect())
        shape = QPainterPath()
        shape.addRoundedRect(area, 4, 4)
        painter.setClipPath(shape)
        painter.fillRect(area, theme.color("track"))
        left = 0.0
        scale = area.width() / self._total
        for part in self._parts:
            width = part.value * scale
            painter.fillRect(QRectF(left, 0, width, area.height()), theme.color(part.token))
            left += width
        if left > area.width() + 0.5:
            painter.fillRect(QRectF(area.width() - 5, 0, 5, area.height()), theme.color("bad"))
        painter.end()


class Sparkline(QWidget):
    """The last values of one quantity as a line; None leaves a gap. `low` and `high` fix the scale where given.

    Signals:
        numbers_requested: the user wants the numbers behind it: Enter, or a double-click.
    """

    numbers_requested = Signal()

    def __init__(self, name: str, token: str, *, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        self._values: tuple[float | None, ...] = ()
        self._token, self._low, self._high = token, low, high
        self._capacity = 120
        self.setFixedHeight(28)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAccessibleName(name)

    def show_values(self, values: Sequence[float | None], *, high: float | None = None, capacity: int = 120) -> None:
        """Show values, oldest first; the newest stands at the right edge, `capacity` values fill the width."""
        self._values, self._capacity = tuple(values), max(2, capacity)
        self._high = high if high is not None else self._high
        self.update()

    def values(self) -> tuple[float | None, ...]:
        """Return what is shown, oldest first."""
        return self._values

    def sizeHint(self) -> QSize:
        """Return the usual size."""
        return QSize(200, 28)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ask for the numbers."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.numbers_requested.emit()
        else:
            super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Ask for the numbers."""
        self.numbers_requested.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the line."""
        theme, painter = active_theme(), QPainter(self)
        painter.setPen(QPen(theme.color("grid"), 1))
        base = self.height() - 0.5
        painter.drawLine(QPointF(0, base), QPointF(self.width(), base))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.color(self._token), 1.4))
        for line in self._lines():
            painter.drawPolyline(line)
        if self.hasFocus():
            painter.setPen(QPen(theme.color("accent"), 1))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.end()

    def _lines(self) -> list[QPolygonF]:
        known = [value for value in self._values if value is not None]
        if not known:
            return []
        low = self._low if self._low is not None else min(known)
        high = max(self._high if self._high is not None else max(known), low + 1e-9)
        step = self.width() / (self._capacity - 1)
        start = self.width() - step * (len(self._values) - 1)
        lines, points = [], QPolygonF()
        for index, value in enumerate(self._values):
            if value is None:
                lines.append(points)
                points = QPolygonF()
                continue
            share = min(1.0, max(0.0, (value - low) / (high - low)))
            points.append(QPointF(start + index * step, 2 + (self.height() - 4) * (1 - share)))
        return [line for line in (*lines, points) if line.size() > 1]


class ProgressLine(QWidget):
    """A thin bar for the share of work done; None is unknown and shows an empty track."""

    def __init__(self, name: str, width: int = 240) -> None:
        super().__init__()
        self._share: float | None = None
        self.setMinimumWidth(48)
        self.setMaximumWidth(width)
        self.setFixedHeight(6)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(name)

    def show_share(self, share: float | None) -> None:
        """Show a share of 0 to 1."""
        if share != self._share:
            self._share = share
            self.setAccessibleDescription("" if share is None else f"{share:.0%}")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the track and the share."""
        theme, painter = active_theme(), _painter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        self._bar(painter, theme.color("track"), 1.0)
        if self._share:
            self._bar(painter, theme.color("accent"), min(1.0, self._share))
        painter.end()

    def _bar(self, painter: QPainter, color: QColor, share: float) -> None:
        painter.setBrush(color)
        radius = self.height() / 2
        painter.drawRoundedRect(QRectF(0, 0, max(self.width() * share, self.height()), self.height()), radius, radius)


class Swatch(QWidget):
    """A small square of a theme colour, for legends."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token
        self.setFixedSize(10, 10)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the square."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(active_theme().color(self._token))
        painter.drawRoundedRect(QRectF(self.rect()), 2, 2)
        painter.end()


def _painter(bar: QWidget) -> QPainter:
    """Return a painter of a bar, which begins where lines of text begin."""
    painter = QPainter(bar)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if bar.isRightToLeft():
        painter.translate(bar.width(), 0)
        painter.scale(-1, 1)
    return painter
