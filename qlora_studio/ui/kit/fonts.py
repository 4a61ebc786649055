"""The fonts that ship with the program, so that everybody sees the same, and the size of text that the user chose.

Inter lies in `resources/fonts` as one file for each weight: where fontconfig finds fonts, Qt knows of a variable font
that a program brings along only its default weight.
"""

import functools
import re
from typing import Literal

from PySide6.QtGui import QFont, QFontDatabase

from qlora_studio.storage.resources import resource

TextSize = Literal["small", "usual", "large", "largest"]
PIXELS: dict[TextSize, int] = {"small": 12, "usual": 13, "large": 15, "largest": 17}
BASE_PIXELS = PIXELS["usual"]
_TABULAR = "tnum"  # every figure as wide as the others: numbers line up, and nothing moves while they change
_SIZE = re.compile(r"(font-size:\s*)(\d+)px")
_chosen = BASE_PIXELS


def set_text_size(size: TextSize) -> None:
    """Take the size of the window's text; whoever asks for a font from now on gets it so."""
    global _chosen
    _chosen = PIXELS[size]


def scaled(pixels: int) -> int:
    """Return a size that was designed for the usual text, at the size that was chosen."""
    return round(pixels * _chosen / BASE_PIXELS)


def scaled_sheet(sheet: str) -> str:
    """Return a style sheet with its sizes of text at the size that was chosen."""
    return _SIZE.sub(lambda found: f"{found[1]}{scaled(int(found[2]))}px", sheet)


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
