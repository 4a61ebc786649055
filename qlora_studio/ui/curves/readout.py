"""The box beside the crosshair: where it is, every value there, and what happened; and the dots on the curves."""

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QPen

from qlora_studio.ui.curves.frame import Frame
from qlora_studio.ui.curves.legend import PEN_STYLES
from qlora_studio.ui.curves.reading import Reading, ReadValue
from qlora_studio.ui.kit.theme import Theme, sans_font

_ROW, _PAD, _SYMBOL, _GAP, _AWAY = 18.0, 9.0, 26.0, 18.0, 12.0
_MOST_WIDTH = 260.0  # of a sentence, which breaks into lines then
_MIDDLE, _RIGHT = Qt.AlignmentFlag.AlignVCenter, Qt.AlignmentFlag.AlignRight
_WORDS = int(Qt.TextFlag.TextWordWrap)


def paint_crosshair(painter: QPainter, reading: Reading, frame: Frame, theme: Theme, *, brief: bool) -> None:
    """Paint the line across, a dot on each curve that has a value there, and the box; if brief, the values alone."""
    area, left = frame.area, frame.left_of(reading.x)
    if not area.left() - 1 <= left <= area.right() + 1:
        return
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setLayoutDirection(Qt.LayoutDirection.LeftToRight)  # as the axes go
    painter.setPen(QPen(theme.color("muted"), 1))
    painter.drawLine(QPointF(left, area.top()), QPointF(left, area.bottom()))
    for value in reading.values:
        place = QPointF(left, frame.top_of(value.value))
        if not value.is_here or not frame.shows(place):
            continue
        painter.setPen(QPen(theme.color("panel"), 1.5))
        painter.setBrush(theme.color(value.token))
        painter.drawEllipse(place, 4, 4)
        if brief and value.is_strong:
            _paint_tag(painter, value.text, area, place, theme)
    if not brief:
        _paint_box(painter, reading, frame, left, theme)


def _paint_tag(painter: QPainter, text: str, area: QRectF, place: QPointF, theme: Theme) -> None:
    """Paint a value beside its dot."""
    wide = QFontMetricsF(_strong()).horizontalAdvance(text) + 12
    left = place.x() + 8 if place.x() + 8 + wide <= area.right() else place.x() - 8 - wide
    tag = QRectF(left, min(max(place.y() - 20, area.top()), area.bottom() - 20), wide, 20)
    painter.setPen(QPen(theme.color("control_line"), 1))
    painter.setBrush(theme.color("panel"))
    painter.drawRoundedRect(tag, 4, 4)
    painter.setPen(theme.color("text"))
    painter.setFont(_strong())
    painter.drawText(tag, int(Qt.AlignmentFlag.AlignCenter), text)


def _paint_box(painter: QPainter, reading: Reading, frame: Frame, left: float, theme: Theme) -> None:
    wide, tall = _size(reading)
    box = _box_place(reading, frame, left, wide + 2 * _PAD, tall + 2 * _PAD)
    painter.setPen(QPen(theme.color("control_line"), 1))
    painter.setBrush(theme.color("panel"))
    painter.drawRoundedRect(box, 6, 6)
    line = QRectF(box.left() + _PAD, box.top() + _PAD, wide, _ROW)
    for number, words in enumerate(reading.place):
        painter.setPen(theme.color("muted" if number else "text"))
        painter.setFont(sans_font(12) if number else _strong())
        painter.drawText(line, int(_MIDDLE), words)
        line.translate(0, _ROW)
    for value in reading.values:
        _paint_value(painter, value, line, theme)
        line.translate(0, _ROW)
    painter.setFont(sans_font(12))
    line.translate(0, 4)
    for words in reading.words:
        line.setHeight(_words_height(words, wide))
        painter.drawText(line, _WORDS, words)
        line.translate(0, line.height())


def _box_place(reading: Reading, frame: Frame, left: float, wide: float, tall: float) -> QRectF:
    """Return where the box stands: beside the line where there is more room, and away from the dots."""
    area = frame.area
    is_right = area.right() - left > left - area.left()
    x = min(left + _AWAY, area.right() + 8 - wide) if is_right else max(left - _AWAY - wide, 2.0)
    tops = [frame.top_of(value.value) for value in reading.values if value.is_strong]
    is_low = bool(tops) and sum(tops) / len(tops) < area.center().y() and tall < area.height()
    return QRectF(x, area.bottom() - frame.strip - 4 - tall if is_low else area.top() + 4, wide, tall)


def _paint_value(painter: QPainter, value: ReadValue, line: QRectF, theme: Theme) -> None:
    middle = line.center().y()
    painter.setPen(QPen(theme.color(value.token), 2 if value.is_strong else 1, PEN_STYLES[value.line]))
    painter.drawLine(QPointF(line.left(), middle), QPointF(line.left() + _SYMBOL - 8, middle))
    painter.setPen(theme.color("muted"))
    painter.setFont(sans_font(12))
    painter.drawText(line.adjusted(_SYMBOL, 0, 0, 0), int(_MIDDLE), value.name)
    painter.setPen(theme.color("text"))
    painter.setFont(_strong())
    painter.drawText(line, int(_MIDDLE | _RIGHT), value.text)


def _size(reading: Reading) -> tuple[float, float]:
    """Return width and height of what stands in the box."""
    plain, strong = QFontMetricsF(sans_font(12)), QFontMetricsF(_strong())
    names = max((plain.horizontalAdvance(value.name) for value in reading.values), default=0.0)
    numbers = max((strong.horizontalAdvance(value.text) for value in reading.values), default=0.0)
    sentences = [min(_MOST_WIDTH, plain.horizontalAdvance(words) + 1) for words in reading.words]
    wide = max(_SYMBOL + names + _GAP + numbers, *map(strong.horizontalAdvance, reading.place), *sentences, 0.0)
    tall = sum(_words_height(words, wide) for words in reading.words)
    return wide, _ROW * (len(reading.place) + len(reading.values)) + (tall + 4 if tall else 0.0)


def _words_height(words: str, wide: float) -> float:
    return QFontMetricsF(sans_font(12)).boundingRect(QRectF(0, 0, wide, 400), _WORDS, words).height()


def _strong() -> QFont:
    return sans_font(12, QFont.Weight.DemiBold)
