"""The one line at the bottom: what runs, how far it is, how long it will take, and what a crash would cost."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.text import FactsLabel, Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import row
from qlora_studio.ui.state.status import Status


class StatusLine(QWidget):
    """Shows a Status. Emits `clicked` when the user presses it: the way to the page of what runs."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(32)
        self._status = Status()
        self._dot = _Dot()
        self._what = Label("", "small")
        self._subject = Label("", "strong")
        self._line = ProgressLine(say("Progress"), width=200)
        self._facts = FactsLabel("", "caption")
        self._at_risk = Label("", "caption")
        box = row(self, margins=(20, 0, 20, 0), spacing=10)
        for part in (self._dot, self._what, self._subject):
            box.addWidget(part)
        box.addWidget(self._line, 1)
        box.addWidget(self._facts, 3)
        box.addWidget(self._at_risk)
        box.addSpacing(0)
        self._subject.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self._show(self._status)

    def render_status(self, status: Status) -> None:
        """Show a status; the same one again costs nothing."""
        if status != self._status:
            self._show(status)

    def _show(self, status: Status) -> None:
        self._status = status
        self._dot.show_tone(status.tone)
        self._what.setText(status.what)
        self._subject.setText(status.subject if len(status.subject) <= 40 else status.subject[:39] + "…")
        self._subject.setVisible(bool(status.subject))
        self._line.setVisible(status.busy)
        self._line.show_share(status.share)
        self._facts.setText(status.facts)
        self._at_risk.setText(status.at_risk)
        words = (status.what, status.subject, status.facts, status.at_risk)
        self.setAccessibleName(say("Status: {words}", words=", ".join(word for word in words if word)))

    def status(self) -> Status:
        """Return what is shown."""
        return self._status

    def mouseReleaseEvent(self, event: object) -> None:
        """Say that the line was pressed."""
        self.clicked.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the surface and the line above it."""
        theme, painter = active_theme(), QPainter(self)
        painter.fillRect(self.rect(), theme.color("panel"))
        painter.fillRect(0, 0, self.width(), 1, theme.color("line"))
        painter.end()


class _Dot(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self._tone = "muted"
        self.setFixedSize(8, 8)

    def show_tone(self, tone: str) -> None:
        if tone != self._tone:
            self._tone = tone
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = active_theme().color(self._tone)
        painter.setPen(color)
        painter.setBrush(color)
        painter.drawEllipse(1, 1, 6, 6)
        painter.end()
