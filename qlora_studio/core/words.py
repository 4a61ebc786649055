"""The functions that all words for people pass, so that a translation is a file and no code.

What is said is the English text, and its own key in a catalogue. A catalogue must be there before modules with words
are imported (`storage/languages.py` sees to it): titles and choices stand in constants and are said as these are made.
Where it has no entry, or one whose fields do not fit, the English text is said, and nothing is raised.
"""

from functools import lru_cache
from string import Formatter
from typing import Protocol

_Fields = frozenset[tuple[str, str | None, str | None]]


class Catalogue(Protocol):
    """What translates: `gettext.NullTranslations` and its kin."""

    def gettext(self, message: str, /) -> str:
        """Return the translation of a text, or the text."""

    def ngettext(self, one: str, many: str, count: int, /) -> str:
        """Return the translation for a count of something, or one of both texts."""


_catalogue: Catalogue | None = None


def speak(catalogue: Catalogue | None) -> None:
    """Say all that is said from now on in the language of a catalogue, or in English."""
    global _catalogue
    _catalogue = catalogue


def say(text: str, /, **values: object) -> str:
    """Return `text` with `values` in its named fields: `say("{name} is gone", name=run)`."""
    translated = _catalogue.gettext(text) if _catalogue and text else text
    if not values:
        return translated
    return (translated if translated == text or fits(translated, text) else text).format(**values)


def say_count(count: int, one: str, many: str, /, **values: object) -> str:
    """Return `one` or `many` with the number as `{count}`: `say_count(2, "{count:,} row", "{count:,} rows")`."""
    english = one if count == 1 else many
    translated = _plural(one, many, count) if _catalogue else english
    known = translated == english or fits(translated, one) or fits(translated, many)
    return (translated if known else english).format(count=count, **values)


@lru_cache(maxsize=8192)
def fits(translated: str, text: str) -> bool:
    """Whether a translation has the fields of its text, each written as there; the count of something may be left out.

    Any others would be a look into our objects, or widths of any size.
    """
    wanted, found = fields(text), fields(translated)
    return found is not None and wanted is not None and found <= wanted and _names(wanted - found) <= {"count"}


def fields(text: str) -> _Fields | None:
    """Return the fields of a text, or None where it is none that can be filled in."""
    try:
        return frozenset((name, spec, way) for _, name, spec, way in Formatter().parse(text) if name is not None)
    except ValueError:
        return None


def _plural(one: str, many: str, count: int) -> str:
    assert _catalogue is not None
    try:
        return _catalogue.ngettext(one, many, count)
    except ArithmeticError:  # a rule of its own for plurals, which divides by zero
        return one if count == 1 else many


def _names(some: _Fields) -> set[str]:
    return {name for name, _, _ in some}
