"""A row as the trainer sees it: every token as a piece, trained, context, special or cut off, by colour and by line.

In a pack the neighbours stand around it, each row on lines of its own behind its number.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QSizePolicy, QWidget

from qlora_studio.core.data.report import TokenPiece
from qlora_studio.core.words import say
from qlora_studio.ui.data.token_layout import LINE, PAD, Placed, TokenLayout
from qlora_studio.ui.kit.text import show_tip, visible_text
from qlora_studio.ui.kit.theme import Theme, active_theme, mono_font

_LINES_SHOWN = (4, 10)
_MARGIN = 2
_SLICE_SECONDS = 0.004  # of setting tokens, between which the window answers
_TEXT = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextSingleLine
_STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_PageUp: -50, Qt.Key.Key_PageDown: 50}


class TokenView(QAbstractScrollArea):
    """Paints tokens in lines. A token is pointed at with the mouse, or with the arrow keys.

    Signals:
        pointed: a sentence about the token that is pointed at; empty when there is none.
    """

    pointed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._tokens: tuple[TokenPiece, ...] = ()
        self._font = mono_font(13)
        self._metrics = QFontMetricsF(self._font)
        self._widths: dict[str, float] = {}
        self._layout = TokenLayout((), 400, self._measure)
        self._current: int | None = None
        self._labels: dict[int, str] = {}
        self._starts: list[int] = []
        self._wanted: int | None = None  # a token that is to come to the top as soon as it is set
        self._more = QTimer(self)
        self._more.setInterval(0)
        self._more.timeout.connect(self._set_more)
        self.setLayoutDirection(Qt.LayoutDirection.LeftToRight)  # tokens stand as the model reads them
        self.setProperty("surface", "clear")
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.viewport().setAutoFillBackground(False)
        self.viewport().setMouseTracking(True)
        self.setAccessibleName(say("Tokens of the row"))
        self._set_again()

    def show_tokens(
        self, tokens: Sequence[TokenPiece], labels: Mapping[int, str] | None = None, *, first: int = 0
    ) -> None:
        """Show tokens, from `first` on. `labels` names the rows of a pack by the index of their first token."""
        self._tokens, self._labels = tuple(tokens), dict(labels or {})
        self._starts = sorted({0, *self._labels})
        self._current = None
        self.pointed.emit("")
        own = [piece for piece in self._tokens if not piece.packed]
        self.setAccessibleDescription(
            say(
                "{tokens} tokens, {trained} trained. Arrow keys read them one by one.",
                tokens=len(own),
                trained=sum(piece.trained for piece in own),
            )
        )
        self.verticalScrollBar().setValue(0)
        self._set_again(top=first)

    def tokens(self) -> tuple[TokenPiece, ...]:
        """Return what is shown."""
        return self._tokens

    def current(self) -> int | None:
        """Return the index of the token that is pointed at."""
        return self._current

    def minimumSizeHint(self) -> QSize:
        """Ask for no width."""
        return QSize(80, LINE)

    def viewportEvent(self, event: QEvent) -> bool:
        """Show a token's id and string on hover."""
        if isinstance(event, QHelpEvent):
            token = self._token_at(event.pos().x(), event.pos().y())
            text = "" if token is None else self._described(token)
            show_tip(event.globalPos(), text, self.viewport())
            return True
        if event.type() == QEvent.Type.Leave and not self.hasFocus():
            self._point_at(None)
        return super().viewportEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Point at the token under the mouse."""
        self._point_at(self._token_at(event.position().x(), event.position().y()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go through the tokens with the arrow keys."""
        key = Qt.Key(event.key())
        if not self._tokens or key not in (*_STEPS, Qt.Key.Key_Home, Qt.Key.Key_End):
            super().keyPressEvent(event)
            return
        last = len(self._tokens) - 1
        start = self._start() - 1 if self._current is None else self._current
        goal = {Qt.Key.Key_Home: 0, Qt.Key.Key_End: last}.get(key, start + _STEPS.get(key, 0))
        self._point_at(min(last, max(0, goal)))
        self._scroll_to_current()

    def resizeEvent(self, event: object) -> None:
        """Set the tokens in lines of the new width."""
        here = self._layout.between(line := self.verticalScrollBar().value() // LINE, line)
        self._set_again(top=self._wanted if self._wanted is not None or not here else here[0].token)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll, and leave what was to come to the top where it is."""
        self._wanted = None
        super().wheelEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the lines that can be seen."""
        painter, theme = QPainter(self.viewport()), active_theme()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self._font)
        top = self.verticalScrollBar().value()
        for piece in self._layout.between(top // LINE, self._last_line()):
            self._paint(painter, theme, piece, piece.line * LINE - top + _MARGIN)
        if self.hasFocus():
            painter.setPen(QPen(theme.color("accent"), 1))
            painter.drawRoundedRect(QRectF(self.viewport().rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.end()

    def _paint(self, painter: QPainter, theme: Theme, piece: Placed, top: float) -> None:
        token = self._tokens[piece.token]
        area = QRectF(piece.left, top + 1, piece.width, LINE - 5)
        if piece.is_label:
            painter.setPen(theme.color("muted"))
            painter.drawText(area.adjusted(piece.indent, -1, 0, 0), Qt.AlignmentFlag.AlignVCenter, piece.run.text)
            return
        paint_piece(painter, theme, area, token)
        if piece.token == self._current:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.color("accent"), 1.5))
            painter.drawRoundedRect(area.adjusted(0.5, 0.5, -0.5, 0.5), 3, 3)
        painter.setPen(_ink(theme, token, piece))
        if piece.run.unseen and len(piece.run.text) > 1:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(area.adjusted(piece.indent - 1, 3, -1, -3), 3, 3)
        text = area.adjusted(piece.indent, -1, 4, 0)
        painter.drawText(text, _TEXT, piece.run.text)

    def _measure(self, text: str) -> float:
        width = self._widths.get(text)
        if width is None:
            width = self._widths[text] = self._metrics.horizontalAdvance(text)
        return width

    def _set_again(self, top: int | None = None) -> None:
        """Set all tokens in lines, a part of them now and the others while the window answers."""
        width = self.viewport().width() - 2
        self._layout = TokenLayout(self._tokens, width, self._measure, self._labels, lazily=True)
        self._wanted = top
        self._set_more()

    def _set_more(self) -> None:
        seen = self._layout.lines <= self._last_line()  # else what comes now comes below what is seen
        self._layout.go_on(_SLICE_SECONDS, _LINES_SHOWN[1])
        if self._wanted is not None and self._layout.done <= self._wanted < 2 * self._layout.done:
            self._layout.go_on(_SLICE_SECONDS)  # what is to be seen is near
        if self._layout.is_complete:
            self._more.stop()
        elif not self._more.isActive():
            self._more.start()
        self._fit()
        if seen:
            self.viewport().update()
        if self._wanted is not None and self._wanted < self._layout.done:
            self.verticalScrollBar().setValue(self._layout.line_of(self._wanted) * LINE)
            if self._layout.is_complete or self.verticalScrollBar().value() < self.verticalScrollBar().maximum():
                self._wanted = None

    def _fit(self) -> None:
        least, most = _LINES_SHOWN
        self.setFixedHeight(min(most, max(least, self._layout.lines)) * LINE + 2 * _MARGIN)
        height = self._layout.lines * LINE + 2 * _MARGIN
        self.verticalScrollBar().setPageStep(self.viewport().height())
        self.verticalScrollBar().setSingleStep(LINE)
        self.verticalScrollBar().setRange(0, max(0, height - self.viewport().height()))

    def _last_line(self) -> int:
        return (self.verticalScrollBar().value() + self.viewport().height()) // LINE

    def _token_at(self, x: float, y: float) -> int | None:
        return self._layout.at(x, y + self.verticalScrollBar().value() - _MARGIN)

    def _point_at(self, token: int | None) -> None:
        if token != self._current:
            self._current = token
            self.pointed.emit("" if token is None else self._described(token))
            self.viewport().update()

    def _described(self, token: int) -> str:
        start = self._starts[bisect_right(self._starts, token) - 1]
        return describe(self._tokens[token], token - start, self._labels.get(start, ""))

    def _start(self) -> int:
        """Return the row's own first token."""
        count = len(self._tokens)
        return next((index for index in self._starts if index < count and not self._tokens[index].packed), 0)

    def _scroll_to_current(self) -> None:
        if (self._current or 0) >= self._layout.done:
            self._wanted = self._current
            return
        self._wanted = None
        bar, top = self.verticalScrollBar(), self._layout.line_of(self._current or 0) * LINE
        if top < bar.value():
            bar.setValue(top)
        elif top + LINE > bar.value() + self.viewport().height():
            bar.setValue(top + LINE + 2 * _MARGIN - self.viewport().height())


class PieceSample(QWidget):
    """A word of the legend, painted as such tokens are."""

    def __init__(self, word: str, piece: TokenPiece) -> None:
        super().__init__()
        self._word, self._piece = word, piece
        self.setFont(mono_font(12))
        self.setFixedSize(round(QFontMetricsF(self.font()).horizontalAdvance(word)) + 4 * PAD, LINE - 2)
        self.setAccessibleName(word)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the word."""
        painter, theme = QPainter(self), active_theme()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(1, 1, self.width() - 2, LINE - 5)
        paint_piece(painter, theme, area, self._piece)
        painter.setPen(theme.color("muted" if self._piece.cut or self._piece.packed else "text"))
        painter.drawText(area, Qt.AlignmentFlag.AlignCenter, self._word)
        painter.end()


def describe(piece: TokenPiece, index: int, row: str = "") -> str:
    """Return a sentence about a token: its place in its row, id, string, and what happens to it."""
    name = f", {visible_text(piece.token)} in the vocabulary" if piece.token else ""
    shown = f"“{visible_text(piece.string)}”" if piece.string else say("part of the character before")
    place = say("token {index:,}{row}", index=index + 1, row=say(" of {row}", row=row) if row else "")
    return say(
        "{place} · id {id}{name} · {shown} · {words}",
        place=place,
        id=piece.id,
        name=name,
        shown=shown,
        words=", ".join(_words(piece)),
    )


def paint_piece(painter: QPainter, theme: Theme, area: QRectF, piece: TokenPiece) -> None:
    """Paint the surface of a token and the line under it: solid trained, dotted special, dashed and struck cut off.

    A neighbour's tokens are of one colour, whatever they are: they are trained as their own row is.
    """
    surface, line = _surface(theme, piece), _line(theme, piece)
    if surface is not None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(surface)
        painter.drawRoundedRect(area, 3, 3)
    if line is not None:
        painter.setPen(line)
        painter.drawLine(area.bottomLeft(), area.bottomRight())
    if piece.special and piece.trained and not piece.packed:
        painter.setPen(QPen(theme.color("accent"), 1.2, Qt.PenStyle.DotLine))
        painter.drawLine(area.topLeft(), area.topRight())
    if piece.cut:
        painter.setPen(QPen(theme.color("bad"), 1))
        middle = area.center().y()
        painter.drawLine(QPointF(area.left(), middle), QPointF(area.right(), middle))


def _surface(theme: Theme, piece: TokenPiece) -> QColor | None:
    if piece.packed:
        return theme.color("neighbour_surface")
    if piece.cut:
        return theme.color("bad_surface")
    if piece.trained:
        return theme.color("trained_surface")
    return theme.color("selection") if piece.special else None


def _line(theme: Theme, piece: TokenPiece) -> QPen | None:
    if piece.packed:
        return QPen(theme.color("muted"), 1, Qt.PenStyle.DashDotLine)
    if piece.cut:
        return QPen(theme.color("bad"), 1.6, Qt.PenStyle.DashLine)
    if piece.trained:
        return QPen(theme.color("ok"), 1.8)
    return QPen(theme.color("accent"), 1.6, Qt.PenStyle.DotLine) if piece.special else None


def _ink(theme: Theme, token: TokenPiece, piece: Placed) -> QColor:
    if piece.run.unseen and piece.run.text not in ("·", "⇥"):
        return theme.color("warn")
    quiet = token.cut or token.packed or piece.run.unseen or piece.run.ends_line
    return theme.color("muted" if quiet else "text")


def _words(piece: TokenPiece) -> list[str]:
    words = [say("special")] if piece.special else []
    if piece.cut:
        return [*words, say("cut off by the max length")]
    if piece.packed:
        return [
            *words,
            say("neighbour in the same pack, trained there")
            if piece.trained
            else say("neighbour in the same pack, context there"),
        ]
    return [*words, say("trained") if piece.trained else say("context, not trained")]
