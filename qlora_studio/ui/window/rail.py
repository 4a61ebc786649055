"""The narrow rail at the left: where to begin, the steps of the work in their order, then where to look things up."""

from collections.abc import Mapping

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFont, QKeySequence, QPainter, QPainterPath, QPaintEvent, QPen, QShortcut
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QSizePolicy, QStyle, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.theme import Theme, active_theme, sans_font
from qlora_studio.ui.kit.widgets import Rule, column
from qlora_studio.ui.readiness.steps import Step, StepState

_BADGE = 18


class RailButton(QAbstractButton):
    """An entry of the rail: a badge with its number, a check or an icon, and a word."""

    def __init__(self, name: str, title: str, number: int | None) -> None:
        super().__init__()
        self.name = name
        self._number = number
        self._step = Step(StepState.TODO)
        self.keys = ""
        self.setText(title)
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self._describe()

    def set_step(self, step: Step) -> None:
        """Show where the step stands; its tooltip says why."""
        if step != self._step:
            self._step = step
            self._describe()
            self.update()

    def set_keys(self, keys: str) -> None:
        """Say by which keys it is chosen."""
        self.keys = keys
        self._describe()

    def sizeHint(self) -> QSize:
        """Return the size of an entry."""
        return QSize(132, 36)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the surface, the badge and the word."""
        theme, painter = active_theme(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_surface(painter, theme)
        self._paint_badge(painter, theme, self._placed(10, (self.height() - _BADGE) // 2, _BADGE, _BADGE))
        weight = QFont.Weight.DemiBold if self.isChecked() else QFont.Weight.Medium
        painter.setFont(sans_font(13, weight))
        painter.setPen(theme.color("accent" if self.isChecked() else "text"))
        words = self._placed(38, 0, self.width() - 42, self.height())
        text = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, round(words.width()))
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
        painter.end()

    def _placed(self, x: int, y: int, width: int, height: int) -> QRectF:
        """Return a place counted from where a line begins: the right, in languages that are written so."""
        return QRectF(QStyle.visualRect(self.layoutDirection(), self.rect(), QRect(x, y, width, height)))

    def _paint_surface(self, painter: QPainter, theme: Theme) -> None:
        area = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        painter.setPen(Qt.PenStyle.NoPen)
        if self.isChecked() or self.underMouse():
            painter.setBrush(theme.color("selection" if self.isChecked() else "hover"))
            painter.drawRoundedRect(area, 6, 6)
        if self.hasFocus():
            painter.setPen(QPen(theme.color("accent"), 1.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(area, 6, 6)

    def _paint_badge(self, painter: QPainter, theme: Theme, area: QRectF) -> None:
        if self._number is None:
            _paint_icon(painter, theme, self.name, area, self.isChecked())
            return
        state = self._step.state
        token = {StepState.DONE: "ok", StepState.ATTENTION: "warn"}.get(state, "")
        ink = token or ("accent" if self.isChecked() else "muted")
        ring = QPen(theme.color(token or ("accent" if self.isChecked() else "control_line")), 1.2)
        if state is StepState.BLOCKED:
            ring.setDashPattern([1.6, 1.8])
        painter.setPen(ring)
        painter.setBrush(theme.color(token) if token else Qt.BrushStyle.NoBrush)
        painter.drawEllipse(area.adjusted(0.6, 0.6, -0.6, -0.6))
        if state is StepState.DONE:
            painter.setPen(_round_pen(theme, "panel", 1.7))
            painter.drawPath(_lines(area, [(0.28, 0.52), (0.44, 0.67), (0.72, 0.36)]))
            return
        painter.setFont(sans_font(11, QFont.Weight.DemiBold))
        painter.setPen(theme.color("panel" if token else ink))
        text = "!" if state is StepState.ATTENTION else str(self._number)
        painter.drawText(area, Qt.AlignmentFlag.AlignCenter, text)

    def _describe(self) -> None:
        title = f"{self.text()} ({self.keys})" if self.keys else self.text()
        step = (
            ""
            if self._number is None
            else say("step {number}, {state}", number=self._number, state=self._step.state.words)
        )
        self.setAccessibleName(self.text())
        self.setAccessibleDescription(f"{step}: {' '.join(self._step.why)}" if self._step.why else step)
        set_tooltip(self, "\n".join(filter(None, (title, self._step.text))))


class Rail(QWidget):
    """All entries. Emits `chosen` with the name of the page that the user picked."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("surface", "panel")
        self._buttons: dict[str, RailButton] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        box = column(self, margins=(10, 18, 10, 14), spacing=0)
        brand = Label("QLoRA Studio", "brand")
        brand.setContentsMargins(10, 0, 0, 14)
        box.addWidget(brand)
        self._first, self._steps = column(spacing=1), column(spacing=1)
        self._places, self._last = column(spacing=1), column(spacing=1)
        box.addLayout(self._first)
        box.addSpacing(6)
        box.addLayout(self._steps)
        box.addSpacing(11)
        box.addWidget(Rule())
        box.addSpacing(11)
        box.addLayout(self._places)
        box.addStretch(1)
        box.addLayout(self._last)

    def add(self, name: str, title: str, *, number: int | None = None, first: bool = False, last: bool = False) -> None:
        """Add an entry: the one at the top, a numbered step, a place, or the one at the bottom."""
        button = RailButton(name, title, number)
        place = self._first if first else self._last if last else self._places if number is None else self._steps
        place.addWidget(button)
        self._group.addButton(button)
        self._buttons[name] = button
        button.clicked.connect(lambda _checked=False, name=name: self.chosen.emit(name))
        keys = f"Ctrl+{len(self._buttons) - 1}"  # the first one has 0: a step's key is its number
        QShortcut(QKeySequence(keys), self, button.click)
        button.set_keys(keys)

    def select(self, name: str) -> None:
        """Mark an entry as the page that is open; the focus goes along where an entry has it.

        Tab comes to that entry alone, and arrows go to the others, so that a page is one Tab away.
        """
        self._buttons[name].setChecked(True)
        policies = Qt.FocusPolicy
        for other, button in self._buttons.items():
            button.setFocusPolicy(policies.StrongFocus if other == name else policies.ClickFocus)
        if any(button.hasFocus() for button in self._buttons.values()):
            self._buttons[name].setFocus()

    def set_steps(self, steps: Mapping[str, Step]) -> None:
        """Show where each step stands."""
        for name, step in steps.items():
            self._buttons[name].set_step(step)

    def button(self, name: str) -> RailButton:
        """Return an entry."""
        return self._buttons[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries, in their order."""
        return tuple(self._buttons)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the surface and the line at the edge of the page."""
        theme, painter = active_theme(), QPainter(self)
        painter.fillRect(self.rect(), theme.color("panel"))
        edge = 0 if self.isRightToLeft() else self.width() - 1
        painter.fillRect(edge, 0, 1, self.height(), theme.color("line"))
        painter.end()


def _paint_icon(painter: QPainter, theme: Theme, name: str, area: QRectF, checked: bool) -> None:
    painter.setPen(_round_pen(theme, "accent" if checked else "muted", 1.4))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    match name:
        case "start":
            roof = _lines(area, [(0.08, 0.52), (0.5, 0.14), (0.92, 0.52)])
            painter.drawPath(roof)
            painter.drawPath(_lines(area, [(0.22, 0.42), (0.22, 0.88), (0.78, 0.88), (0.78, 0.42)]))
        case "chat":
            painter.drawRoundedRect(area.adjusted(2, 3, -2, -5), 3, 3)
            painter.drawPath(_lines(area, [(0.32, 0.74), (0.32, 0.92), (0.52, 0.74)]))
        case "runs":
            for y in (0.26, 0.5, 0.74):
                painter.drawPath(_lines(area, [(0.14, y), (0.18, y)]))
                painter.drawPath(_lines(area, [(0.34, y), (0.88, y)]))
        case _:
            for y, knob in ((0.3, 0.64), (0.7, 0.36)):
                painter.drawPath(_lines(area, [(0.12, y), (0.88, y)]))
                painter.setBrush(theme.color("panel"))
                painter.drawEllipse(_at(area, knob, y), 2.4, 2.4)
                painter.setBrush(Qt.BrushStyle.NoBrush)


def _round_pen(theme: Theme, token: str, width: float) -> QPen:
    pen = QPen(theme.color(token), width)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    return pen


def _lines(area: QRectF, points: list[tuple[float, float]]) -> QPainterPath:
    path = QPainterPath(_at(area, *points[0]))
    for point in points[1:]:
        path.lineTo(_at(area, *point))
    return path


def _at(area: QRectF, x: float, y: float) -> QPointF:
    return QPointF(area.left() + x * area.width(), area.top() + y * area.height())
