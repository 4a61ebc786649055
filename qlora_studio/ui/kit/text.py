"""Text that is shown as it is, with everything in it that cannot be seen made visible.

A dataset's `<img>` would be loaded and `<s>[INST]` would be struck through. Every label and tooltip
of the window is made here.
"""

import html
import unicodedata
from dataclasses import dataclass

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QLabel, QSizePolicy, QToolTip, QWidget

from qlora_studio.ui.kit.fonts import BASE_PIXELS, polish_again, text_font, wear_text

_NAMES = {
    0x00: "NUL",
    0x0B: "VT",
    0x0C: "FF",
    0x0D: "CR",
    0x1B: "ESC",
    0xA0: "NBSP",
    0xAD: "SHY",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
    0xFFFD: "U+FFFD",
}
_UNSEEN = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
_SMALLEST = 9  # pixels of a figure that has little room
_FONTS = {  # of the roles that have one of their own
    "brand": (14, QFont.Weight.Bold),
    "heading": (19, QFont.Weight.DemiBold),
    "title": (BASE_PIXELS, QFont.Weight.DemiBold),
    "strong": (BASE_PIXELS, QFont.Weight.DemiBold),
    "number": (18, QFont.Weight.DemiBold),
    "caption": (12, QFont.Weight.Normal),
    "small": (12, QFont.Weight.Normal),
    "chip": (12, QFont.Weight.Normal),
}
NEW_LINE, TAB, DOTTED_CIRCLE = "⏎", "⇥", "◌"
SEPARATOR = " · "  # between facts


class Label(QLabel):
    """A label that shows its text literally. `role` is the style: body, title, heading, muted, caption, number …"""

    def __init__(self, text: str = "", role: str = "body", *, wrap: bool = False, selectable: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        if role in _FONTS:
            pixels, weight = _FONTS[role]
            wear_text(self, text_font(weight), pixels)
        self.setWordWrap(wrap)
        if wrap:
            self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        if selectable:
            flags = Qt.TextInteractionFlag
            self.setTextInteractionFlags(flags.TextSelectableByMouse | flags.TextSelectableByKeyboard)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`; the same text again costs nothing."""
        if text != self.text():
            super().setText(text)

    def set_tone(self, tone: str) -> None:
        """Colour the text: ok, warn, bad, accent, muted, or nothing."""
        set_style_property(self, "tone", tone)


class ElidedLabel(Label):
    """A label on one line that ends in … where the room ends; its tooltip has the whole text."""

    def __init__(self, text: str = "", role: str = "body", *, middle: bool = False) -> None:
        self._whole = ""
        self._mode = Qt.TextElideMode.ElideMiddle if middle else Qt.TextElideMode.ElideRight
        super().__init__("", role)
        self.setMinimumWidth(24)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`, in one line; the same text again costs nothing."""
        whole = " ".join(text.split())
        if whole != self._whole:
            self._whole = whole
            self.setAccessibleName(whole)
            self._elide()

    def whole_text(self) -> str:
        """Return the text without its ellipsis."""
        return self._whole

    def resizeEvent(self, event: object) -> None:
        """Cut the text to the new width."""
        super().resizeEvent(event)  # type: ignore[arg-type]
        self._elide()

    def _elide(self) -> None:
        shown = self._fitted(self._whole, max(0, self.width() - 2))
        QLabel.setText(self, shown)
        set_tooltip(self, self._whole if shown != self._whole else "")

    def _fitted(self, whole: str, room: int) -> str:
        return self.fontMetrics().elidedText(whole, self._mode, room)


class FactsLabel(ElidedLabel):
    """Facts with dots between them, in one line: of those that have no room the last are left out, whole."""

    def _fitted(self, whole: str, room: int) -> str:
        facts = whole.split(SEPARATOR)
        while len(facts) > 1 and self.fontMetrics().horizontalAdvance(SEPARATOR.join(facts)) > room:
            facts.pop()
        return super()._fitted(SEPARATOR.join(facts), room)


class NumberLabel(Label):
    """A figure with its unit, never cut: where the room ends, it is painted smaller."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text, "number")
        self.setMinimumWidth(24)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def paintEvent(self, event: object) -> None:
        """Paint the text as large as it fits."""
        painter, font = QPainter(self), self.font()
        while QFontMetrics(font).horizontalAdvance(self.text()) > self.width() and font.pixelSize() > _SMALLEST:
            font.setPixelSize(font.pixelSize() - 1)
        painter.setFont(font)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.setLayoutDirection(Qt.LayoutDirection.LayoutDirectionAuto)  # "35 min", whichever way the window goes
        flags = Qt.AlignmentFlag
        side = flags.AlignRight if self.isRightToLeft() else flags.AlignLeft
        painter.drawText(self.rect(), flags.AlignVCenter | flags.AlignAbsolute | side, self.text())
        painter.end()


def set_tooltip(widget: QWidget, text: str) -> None:
    """Give `widget` a tooltip that shows `text` literally, wrapped."""
    widget.setToolTip(tooltip(text))


def tooltip(text: str) -> str:
    """Return `text` as the rich text that shows it literally: for tooltips of item models."""
    return f"<p style='white-space:pre-wrap'>{html.escape(text)}</p>" if text else ""


def show_tip(at: QPoint, text: str, widget: QWidget, milliseconds: int = -1) -> None:
    """Show `text` literally at a place of the screen, above a widget, until the mouse leaves it or the time is over."""
    QToolTip.showText(at, tooltip(text), widget, widget.rect(), milliseconds)


def set_style_property(widget: QWidget, name: str, value: str) -> None:
    """Set a property that the style sheet looks at, and let the widget look again where it changed."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    polish_again(widget)


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text to paint. `unseen` marks a name that stands for a character; `ends_line` ends the line."""

    text: str
    unseen: bool = False
    ends_line: bool = False


def visible_runs(text: str) -> list[Run]:
    """Return `text` as stretches: as it is, with names for what cannot be seen, and with marks for line ends."""
    runs: list[Run] = []
    plain = ""
    for character in text:
        mark = _mark(character, first=not plain)
        if mark is None:
            plain += character
            continue
        if plain:
            runs.append(Run(plain))
            plain = ""
        if mark.unseen or mark.ends_line:
            runs.append(mark)
        else:
            plain = mark.text
    return [*runs, Run(plain)] if plain else runs


def visible_text(text: str) -> str:
    """Return `text` in one line with everything visible, for tooltips: ⏎ is a line end, ‹ZWSP› a character's name."""
    return "".join(f"‹{run.text}›" if run.unseen and run.text != TAB else run.text for run in visible_runs(text))


def visible_lines(text: str) -> str:
    """Return `text` with its lines and tabs, and names for what cannot be seen or would turn the order around."""
    marks = ((character, _mark(character, first=False)) for character in set(text) - {"\n", "\t"})
    return text.translate({ord(character): f"‹{mark.text}›" for character, mark in marks if mark and mark.unseen})


def _mark(character: str, *, first: bool) -> Run | None:
    if character == "\n":
        return Run(NEW_LINE, ends_line=True)
    if character == "\t":
        return Run(TAB, unseen=True)
    category = unicodedata.category(character)
    if ord(character) in _NAMES or category in _UNSEEN:
        return Run(_NAMES.get(ord(character), f"U+{ord(character):04X}"), unseen=True)
    if category == "Zs" and character != " ":
        return Run(f"U+{ord(character):04X}", unseen=True)
    if first and category in ("Mn", "Me"):
        return Run(DOTTED_CIRCLE + character)
    return None
