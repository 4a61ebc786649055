"""Checks in a list: a mark, what was checked, and below that a sentence with the figures."""

from collections.abc import Sequence
from typing import Protocol

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Rule, column, row

_TOKENS = {"ok": "ok", "warning": "warn", "error": "bad", "": "muted"}
_WORDS = {"ok": say("passed"), "warning": say("look at this"), "error": say("failed"), "": say("not known")}


class Checked(Protocol):
    """What a check says: of a dataset, or of an export."""

    @property
    def title(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def level(self) -> str: ...


class Mark(QWidget):
    """A painted check, exclamation mark or cross: the form says what the colour says."""

    def __init__(self, level: str = "ok") -> None:
        super().__init__()
        self._level = level
        self.setFixedSize(16, 16)
        self.show_level(level)

    def show_level(self, level: str) -> None:
        """Show ok, warning or error; an empty word is unknown."""
        self._level = level
        self.setAccessibleName(_WORDS[level])
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the mark."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(active_theme().color(_TOKENS[self._level]), 1.7)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        painter.setPen(pen)
        for line in _STROKES[self._level]:
            painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in line]))
        if self._level == "warning":
            painter.setBrush(pen.color())
            painter.drawEllipse(QRectF(7.4, 11.4, 1.2, 1.2))
        painter.end()


_STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "ok": [[(3.5, 8.5), (6.5, 11.5), (12.5, 4.5)]],
    "warning": [[(8, 3.5), (8, 8.5)]],
    "error": [[(4, 4), (12, 12)], [(12, 4), (4, 12)]],
    "": [[(4, 8), (12, 8)]],
}


class CheckList(QWidget):
    """Shows checks below each other."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self._box = column(self, spacing=0)
        self._pending = Label("", "muted", wrap=True)
        self._pending.hide()
        self._box.addWidget(self._pending, 0, Qt.AlignmentFlag.AlignTop)
        self._lines: list[_Line] = []

    def show_checks(self, checks: Sequence[Checked], *, pending: bool = False) -> None:
        """Show these checks; where they are `pending` that, in the room of those that are gone."""
        self.setMinimumHeight(self.height() if pending and self.isVisible() else 0)
        self._pending.setText(say("– Everything is checked again for the settings as they are now.") if pending else "")
        self._pending.setVisible(pending)
        while len(self._lines) < len(checks):
            self._lines.append(_Line(first=not self._lines))
            self._box.addWidget(self._lines[-1])
        for index, line in enumerate(self._lines):
            line.setVisible(index < len(checks))
            if index < len(checks):
                line.show_check(checks[index])


class _Line(QWidget):
    def __init__(self, *, first: bool) -> None:
        super().__init__()
        outer = column(self, spacing=0)
        rule = Rule()
        outer.addWidget(rule)
        rule.setVisible(not first)
        box = row(margins=(6, 8, 6, 8), spacing=10)
        self._mark = Mark()
        self._title = Label("", wrap=True)
        self._message = Label("", "caption", wrap=True, selectable=True)
        words = column(spacing=2)
        words.addWidget(self._title)
        words.addWidget(self._message)
        box.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        box.addLayout(words, 1)
        outer.addLayout(box)

    def show_check(self, check: Checked) -> None:
        self._mark.show_level(check.level)
        self._title.setText(check.title)
        self._message.setText(check.message)
        self.setAccessibleName(f"{check.title}: {_WORDS[check.level]}. {check.message}")
