"""The fonts that ship with the program, so that everybody sees the same, and the size of text that the user chose.

Inter lies in `resources/fonts` as one file for each weight: where fontconfig finds fonts, Qt knows of a variable font
that a program brings along only its default weight.
"""

import functools
from typing import Literal

from PySide6.QtGui import QFont, QFontDatabase
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from qlora_studio.storage.resources import resource

TextSize = Literal["small", "usual", "large", "largest"]
PIXELS: dict[TextSize, int] = {"small": 12, "usual": 13, "large": 15, "largest": 17}
BASE_PIXELS = PIXELS["usual"]
_TABULAR = "tnum"  # every figure as wide as the others: numbers line up, and nothing moves while they change
_WORN = "wornPixels"
_chosen = BASE_PIXELS


def set_text_size(size: TextSize) -> None:
    """Take the size of the window's text; whoever asks for a font from now on gets it so."""
    global _chosen
    _chosen = PIXELS[size]


def scaled(pixels: int) -> int:
    """Return a size that was designed for the usual text, at the size that was chosen."""
    return round(pixels * _chosen / BASE_PIXELS)


def wear_text(widget: QWidget, font: QFont, pixels: int) -> None:
    """Give a widget a font of a size that was designed for the usual text; it follows the size that is chosen.

    A style sheet that gave sizes would have to be set anew for others, and dress all the window's widgets: two seconds.
    """
    widget.setProperty(_WORN, pixels)
    _wear(widget, font, pixels)


def polish_again(widget: QWidget) -> None:
    """Have a widget look at the style sheet again, and keep its font: Qt would give it that of its first look."""
    font = widget.font()
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    if widget.font() != font:
        widget.setFont(font)


def follow_text_size() -> None:
    """Have every widget wear its font in the size that was chosen: Qt hands fonts to none that a style sheet reaches.

    One with a font of its own that was not worn (`wear_text`) keeps it.
    """
    families = QApplication.font().families()
    for widget in QApplication.allWidgets():
        font, pixels = widget.font(), widget.property(_WORN)
        if pixels or font.families() == families:
            _wear(widget, font, pixels or BASE_PIXELS)
        if isinstance(widget, QLabel) and not widget.text():
            widget.setIndent(widget.indent())  # Qt measures an empty label for nothing else


def text_font(weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
    """Return a font that is the window's own in all but its weight, and the size that `wear_text` gives."""
    font = QFont()
    font.setWeight(weight)
    return font


@functools.cache
def bring_fonts() -> None:
    """Make the fonts known to Qt."""
    for file in sorted(resource("fonts").glob("*.otf")):
        QFontDatabase.addApplicationFont(str(file))


def made_font(families: tuple[str, ...], pixels: int, weight: QFont.Weight, hint: QFont.StyleHint) -> QFont:
    """Return a font of the first of these families that is there, at the size that was chosen."""
    font = QFont()
    font.setFamilies(families)
    font.setStyleHint(hint)
    font.setPixelSize(scaled(pixels))
    font.setWeight(weight)
    font.setFeature(QFont.Tag(_TABULAR), 1)
    return font


def _wear(widget: QWidget, font: QFont, pixels: int) -> None:
    font = QFont(font)
    font.setPixelSize(scaled(pixels))
    widget.setFont(font)
