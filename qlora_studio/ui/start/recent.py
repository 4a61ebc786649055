"""A list of things that were used lately, each taken up again by one click."""

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.layouts import dismiss
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Card, column
from qlora_studio.ui.start.view import USUAL, Recent

_INSET = 8


class RecentList(Card):
    """Lines below each other. Emits `chosen` with the key of the one that was clicked."""

    chosen = Signal(str)

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._none = Label(say("None yet"), "caption")
        self._lines = column(spacing=0)
        self._shown: dict[str, RecentLine] = {}
        self._most = USUAL
        self.add(self._none)
        self.body.addLayout(self._lines)
        self.body.addStretch(1)
        self.setContentsMargins(-_INSET, 0, -_INSET, 0)  # the words of a line stand below those of the title
        for label in (self.title_label, self._none):
            label.setContentsMargins(_INSET, 0, 0, 0)

    def render_recents(self, recents: Sequence[Recent]) -> None:
        """Show these. A line that stays is the same widget: it may have the focus, or be just being clicked."""
        self._none.setVisible(not recents)
        for key in self._shown.keys() - {recent.key for recent in recents}:
            old = self._shown.pop(key)
            dismiss(old)
        before: QWidget | None = None
        for place, recent in enumerate(recents):
            line = self._shown.get(recent.key) or self._new_line(recent.key)
            line.show_recent(recent)
            if self._lines.indexOf(line) != place:
                self._lines.insertWidget(place, line)
            if before is not None:
                QWidget.setTabOrder(before, line)
            before = line
        self._hide_rest()

    def show_most(self, most: int) -> None:
        """Show so many lines at most."""
        if most != self._most:
            self._most = most
            self._hide_rest()

    def _hide_rest(self) -> None:
        for line in self._shown.values():
            line.setVisible(self._lines.indexOf(line) < self._most)

    def _new_line(self, key: str) -> "RecentLine":
        line = self._shown[key] = RecentLine()
        line.clicked.connect(lambda: self.chosen.emit(key))
        return line


class RecentLine(QAbstractButton):
    """A name above a word on it, as a button."""

    def __init__(self) -> None:
        super().__init__()
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        box = column(self, margins=(_INSET, 5, _INSET, 5), spacing=1)
        self._title, self._note = ElidedLabel(""), ElidedLabel("", "caption")
        box.addWidget(self._title)
        box.addWidget(self._note)

    def show_recent(self, recent: Recent) -> None:
        """Show another name, or another word on it."""
        self._title.setText(recent.title)
        self._note.setText(recent.note)
        self.setAccessibleName(recent.title)
        self.setAccessibleDescription(recent.note)

    def sizeHint(self) -> QSize:
        """Return the size of both lines."""
        layout = self.layout()
        return layout.sizeHint() if layout is not None else super().sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the surface below the words while the mouse is on it, and the focus."""
        theme, painter = active_theme(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = self.rect().adjusted(1, 1, -1, -1)
        painter.setPen(QPen(theme.color("accent"), 1.5) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(theme.color("hover") if self.underMouse() else Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(area, 6, 6)
        painter.end()
