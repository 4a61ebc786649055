"""The legend of a plot: a painted mark and a word for each line. A mark's shape says what its colour says."""

from collections.abc import Sequence

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import row

_PENS = {"dash": Qt.PenStyle.DashLine, "dash-dot": Qt.PenStyle.DashDotLine}


class Legend(QWidget):
    """Marks with words, in one row."""

    def __init__(self) -> None:
        super().__init__()
        self._box = row(self, spacing=6)
        self._shown: tuple[tuple[str, str, str], ...] = ()

    def show_marks(self, marks: Sequence[tuple[str, str, str]]) -> None:
        """Show other marks: shape, colour token, word."""
        if tuple(marks) == self._shown:
            return
        self._shown = tuple(marks)
        while (item := self._box.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        for shape, token, word in marks:
            self._box.addWidget(_Mark(shape, token))
            self._box.addWidget(Label(word, "caption"))
            self._box.addSpacing(8)


class _Mark(QWidget):
    def __init__(self, shape: str, token: str) -> None:
        super().__init__()
        self._shape, self._token = shape, token
        self.setFixedSize(10 if shape in ("triangle", "diamond") else 18, 10)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = active_theme().color(self._token)
        middle, right = self.height() / 2, float(self.width())
        if self._shape == "triangle":
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color)
            painter.drawPolygon(QPolygonF([QPointF(right / 2, 1), QPointF(right - 0.5, 9), QPointF(0.5, 9)]))
        elif self._shape == "diamond":
            painter.setPen(QPen(color, 1.6))
            corners = ((right / 2, 0.8), (right - 0.8, middle), (right / 2, 9.2), (0.8, middle))
            painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
        else:
            painter.setPen(QPen(color, 2, _PENS.get(self._shape, Qt.PenStyle.SolidLine)))
            painter.drawLine(QPointF(0, middle), QPointF(right, middle))
        painter.end()
