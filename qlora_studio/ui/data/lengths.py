"""How long the rows are, in tokens: the histogram with the max length as a line to drag, and the table behind it."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from qlora_studio.core.data.report import LengthStatistics, kept_by
from qlora_studio.core.words import say
from qlora_studio.ui.data.view import lengths_text, tokens_text
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import Theme, active_theme, sans_font
from qlora_studio.ui.kit.widgets import Button, Card

_NICE = (1, 2, 5)
_HEIGHT, _TOP, _BOTTOM, _SIDE = 168, 24, 22, 8
_REACH = 8  # pixels around the line that take hold of it
_KEYS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_PageDown: -8, Qt.Key.Key_PageUp: 8}
_COLUMNS = (
    Column(say("From"), lambda item: f"{item[0]:,}", right=True),
    Column(say("to"), lambda item: say("{item:,} tokens", item=item[1]), right=True),
    Column(say("Rows"), lambda item: f"{item[2]:,}", right=True, stretch=True),
)


@dataclass(frozen=True)
class LengthScale:
    """Tokens from 0 to `longest` over pixels from `left` on, `width` wide."""

    longest: int
    left: float
    width: float

    def x(self, tokens: float) -> float:
        """Return where a length stands; beyond the end it stands at the end."""
        return self.left + self.width * min(1.0, max(0.0, tokens / max(1, self.longest)))

    def tokens(self, x: float) -> int:
        """Return the length at a place."""
        return round(self.longest * min(1.0, max(0.0, (x - self.left) / max(1.0, self.width))))

    def ticks(self, count: int = 4) -> tuple[int, ...]:
        """Return about `count` round lengths, 0 first."""
        step = nice_step(self.longest / max(1, count))
        return tuple(range(0, self.longest + 1, step))


def nice_step(size: float) -> int:
    """Return the least of 1, 2, 5, 10, 20 … that is at least `size`."""
    scale = 1
    while True:
        for step in _NICE:
            if step * scale >= size:
                return step * scale
        scale *= 10


def nice_length(tokens: int) -> int:
    """Return a max length near `tokens`: a multiple of 64 from 512 on, of 8 below; never under 16."""
    step = 64 if tokens >= 512 else 8
    return max(16, round(tokens / step) * step)


def beyond(edges: tuple[int, ...], values: tuple[int, ...], length: int) -> int:
    """Return what lies beyond a max length, between the two edges that it stands between, by the straight line."""
    if not edges or not values or length >= edges[-1]:
        return 0
    for index, edge in enumerate(edges[:-1]):
        if length < edges[index + 1]:
            here = values[index]
            there = values[index + 1] if index + 1 < len(values) else 0
            share = (length - edge) / max(1, edges[index + 1] - edge)
            return round(here + (there - here) * max(0.0, share))
    return 0


class LengthHistogram(QWidget):
    """Paints the histogram.

    Signals:
        moved: the line stands at another max length, while it is dragged.
        max_length_requested: the user let go of the line, or moved it by a key.
    """

    moved = Signal(int)
    max_length_requested = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._lengths: LengthStatistics | None = None
        self._max_length = 0
        self._dragged: int | None = None
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName(say("Tokens per row, with the max length"))

    def show_lengths(self, lengths: LengthStatistics | None, max_length: int) -> None:
        """Show a histogram, and the max length of the run."""
        self._lengths, self._max_length = lengths, max_length
        self._describe()
        self.update()

    def max_length(self) -> int:
        """Return where the line stands."""
        return self._max_length if self._dragged is None else self._dragged

    def line_x(self) -> float:
        """Return where the line stands in pixels."""
        return self._scale().x(self.max_length())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take hold of the line, from anywhere near it."""
        if self._lengths and abs(event.position().x() - self.line_x()) <= _REACH:
            self._dragged = self._max_length

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag the line."""
        near = self._lengths is not None and abs(event.position().x() - self.line_x()) <= _REACH
        self.setCursor(Qt.CursorShape.SizeHorCursor if near or self._dragged else Qt.CursorShape.ArrowCursor)
        if self._dragged is not None:
            self._dragged = nice_length(self._scale().tokens(event.position().x()))
            self.moved.emit(self._dragged)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go of the line."""
        dragged, self._dragged = self._dragged, None
        if dragged is not None and dragged != self._max_length:
            self._ask(dragged)
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the line by keys."""
        step = _KEYS.get(Qt.Key(event.key()))
        if step is None or self._lengths is None:
            super().keyPressEvent(event)
            return
        start = min(self._max_length, self._scale().longest)
        self._ask(nice_length(start + step * (64 if start > 512 or (start == 512 and step > 0) else 8)))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the bars, the scale and the line."""
        painter, theme = QPainter(self), active_theme()
        painter.setFont(sans_font(11))
        if self._lengths is None or not any(self._lengths.counts):
            painter.setPen(theme.color("muted"))
            painter.drawText(
                self.rect(), Qt.AlignmentFlag.AlignCenter, say("Lengths appear when the rows are tokenized.")
            )
        else:
            self._paint_bars(painter, theme, self._lengths)
            self._paint_scale(painter, theme)
            self._paint_line(painter, theme)
        painter.end()

    def _paint_bars(self, painter: QPainter, theme: Theme, lengths: LengthStatistics) -> None:
        scale, floor = self._scale(), self.height() - _BOTTOM
        tallest = max(lengths.counts)
        painter.setPen(Qt.PenStyle.NoPen)
        for low, high, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
            height = 0.0 if not count else max(2.0, (floor - _TOP - 6) * count / tallest)
            left, right = scale.x(low), scale.x(high)
            painter.setBrush(theme.color("weights" if low < self.max_length() else "logits"))
            painter.drawRect(QRectF(left, floor - height, max(1.0, right - left - 1.5), height))

    def _paint_scale(self, painter: QPainter, theme: Theme) -> None:
        scale, floor = self._scale(), self.height() - _BOTTOM
        painter.setPen(QPen(theme.color("line"), 1))
        painter.drawLine(QPointF(scale.left, floor + 0.5), QPointF(scale.left + scale.width, floor + 0.5))
        painter.setPen(theme.color("muted"))
        for tick in scale.ticks(3 if self.width() < 260 else 4):
            area = QRectF(scale.x(tick) - 40, floor + 4, 80, 16)
            if area.right() - 20 > self.width():
                continue
            side = Qt.AlignmentFlag.AlignHCenter
            if tick == 0:
                area, side = QRectF(scale.left, floor + 4, 80, 16), Qt.AlignmentFlag.AlignLeft
            painter.drawText(area, side, f"{tick:,}")

    def _paint_line(self, painter: QPainter, theme: Theme) -> None:
        x, length = self.line_x(), self.max_length()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = theme.color("accent" if self.hasFocus() or self._dragged is not None else "logits")
        painter.setPen(QPen(color, 1.5, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, _TOP - 4), QPointF(x, self.height() - _BOTTOM))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        painter.drawEllipse(QPointF(x, _TOP - 4), 3.5, 3.5)
        painter.setPen(theme.color("text"))
        further = " →" if length > self._scale().longest else ""
        text = say("max length {length:,}{further}", length=length, further=further)
        width = painter.fontMetrics().horizontalAdvance(text) + 6
        left = min(max(0.0, x - width / 2), self.width() - width)
        painter.drawText(QRectF(left, 0, width, 16), Qt.AlignmentFlag.AlignCenter, text)

    def _scale(self) -> LengthScale:
        longest = self._lengths.edges[-1] if self._lengths and self._lengths.edges else 1
        if self._lengths and longest < self._max_length <= 1.25 * longest:
            longest = self._max_length
        return LengthScale(longest, _SIDE, self.width() - 2 * _SIDE)

    def _ask(self, length: int) -> None:
        self.moved.emit(length)
        self.max_length_requested.emit(length)

    def _describe(self) -> None:
        if self._lengths is None:
            return
        text = say(
            "{rows} rows of {shortest} to {longest} tokens.",
            rows=self._lengths.rows,
            shortest=self._lengths.shortest,
            longest=self._lengths.longest,
        )
        moved = say("Max length {length}; the arrow keys move it.", length=self._max_length)
        self.setAccessibleDescription(f"{text} {moved}")


def cut_text(lengths: LengthStatistics, max_length: int) -> str:
    """Return what a max length cuts off, in words."""
    rows = beyond(lengths.edges, lengths.rows_beyond, max_length)
    if max_length >= lengths.longest or not rows:
        return say("Nothing is cut off: the longest row has {longest:,} tokens.", longest=lengths.longest)
    lost = beyond(lengths.edges, lengths.trained_beyond, max_length)
    share = lost / lengths.trained_tokens if lengths.trained_tokens else 0.0
    return say(
        "About {rows:,} rows are cut, {share:.1%} of the answer tokens are lost. {kept_by}",
        rows=rows,
        share=share,
        kept_by=kept_by(lengths.keeps),
    )


class LengthsCard(Card):
    """Shows lengths.

    Signals:
        max_length_requested: the user moved the line.
    """

    max_length_requested = Signal(int)

    def __init__(self) -> None:
        super().__init__(say("Tokens per row"))
        self._lengths: LengthStatistics | None = None
        self.histogram = LengthHistogram()
        self._cut, self._words, self._tokens = (Label("", role, wrap=True) for role in ("small", "caption", "caption"))
        self._model = TableModel(_COLUMNS)
        self.table = Table(self._model, name=say("Rows by length"))
        self.table.setFixedHeight(168)
        self.table.hide()
        self.fold = Button(say("Table"), "quiet", checkable=True)
        self.add_header(self.fold)
        self.add(self.histogram, self.table, self._cut, self._words, self._tokens)
        self.body.addStretch(1)
        self.fold.toggled.connect(self._on_fold_toggled)
        self.histogram.moved.connect(self._say_what_is_cut)
        self.histogram.max_length_requested.connect(self.max_length_requested)

    def show_lengths(self, lengths: LengthStatistics | None, max_length: int, *, current: bool = True) -> None:
        """Show lengths, and the max length of the run; not `current`, what depends on more than the rows is a dash."""
        self._lengths = lengths
        self.histogram.show_lengths(lengths, max_length)
        bins = zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False) if lengths else ()
        self._model.set_rows(tuple(item for item in bins if item[2]))
        self._words.setText(lengths_text(lengths, current=current) if lengths else "")
        self._tokens.setText(tokens_text(lengths, current=current) if lengths else "")
        self._say_what_is_cut(max_length)

    def _say_what_is_cut(self, max_length: int) -> None:
        self._cut.setText(cut_text(self._lengths, max_length) if self._lengths else "")

    def _on_fold_toggled(self, shown: bool) -> None:
        self.table.setVisible(shown)
        self.histogram.setVisible(not shown)
