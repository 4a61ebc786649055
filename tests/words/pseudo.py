"""A language of which everybody can read every word: in brackets, with accents, and four tenths longer."""

import re
from string import Formatter

OPEN, CLOSE = "⟦", "⟧"
_ACCENTS = str.maketrans("aceilnorsuyACEILNORSUY", "áçéíłñóřšúýÁÇÉÍŁÑÓŘŠÚÝ")
_BETWEEN = re.compile("\0|\n| · |, |: | = |;")
_SAID = re.compile(f"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}")


def pseudo(text: str) -> str:
    """Return a text in the language, with its fields as they are."""
    parts = Formatter().parse(text)
    return OPEN + "".join(_drawled(words) + _field(name, spec, way) for words, name, spec, way in parts) + CLOSE


def unsaid(text: str) -> list[str]:
    """Return the pieces of a text that is shown that were not said."""
    while (rest := _SAID.sub("\0", text)) != text:
        text = rest
    return [
        piece for part in _BETWEEN.split(text) if (piece := part.strip(" ()“”.…–")) if re.search("[A-Za-z]{2}", piece)
    ]


def _drawled(words: str) -> str:
    doubled = re.sub("[aeiouAEIOU]", lambda found: found[0] + found[0].lower(), words)
    return doubled.translate(_ACCENTS).replace("{", "{{").replace("}", "}}")


def _field(name: str | None, spec: str | None, way: str | None) -> str:
    if name is None:
        return ""
    return "{" + name + (f"!{way}" if way else "") + (f":{spec}" if spec else "") + "}"
