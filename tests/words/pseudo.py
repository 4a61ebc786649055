"""A language of which everybody can read every word: in brackets, with an accent on each vowel, four tenths longer."""

import re
from string import Formatter

_OPEN, _CLOSE = "⟦", "⟧"
_LETTERS = "áçéíłñóřšúýÁÇÉÍŁÑÓŘŠÚÝ"
_ACCENTS = str.maketrans("aceilnorsuyACEILNORSUY", _LETTERS)
_BETWEEN = re.compile(rf"\S*[{_LETTERS}]\S*|[{_OPEN}{_CLOSE}\n;]| · |, |: | = | → ?")


def pseudo(text: str) -> str:
    """Return a text in the language, with its fields as they are."""
    parts = Formatter().parse(text)
    return _OPEN + "".join(_drawled(words) + _field(name, spec, way) for words, name, spec, way in parts) + _CLOSE


def unsaid(text: str) -> list[str]:
    """Return the pieces of a text that is shown that were not said: those with a vowel that has no accent."""
    pieces = (piece.strip(" ()“”.…–") for piece in _BETWEEN.split(text))
    return [piece for piece in pieces if re.search("[AEIOUaeiou]", piece)]


def _drawled(words: str) -> str:
    doubled = re.sub("[aeiouAEIOU]", lambda found: found[0] + found[0].lower(), words)
    return doubled.translate(_ACCENTS).replace("{", "{{").replace("}", "}}")


def _field(name: str | None, spec: str | None, way: str | None) -> str:
    if name is None:
        return ""
    return "{" + name + (f"!{way}" if way else "") + (f":{spec}" if spec else "") + "}"
