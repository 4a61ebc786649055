"""Values within a row, and what is wrong with one, in words."""

import json
from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_notes import RowNotes
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.foreign_text import Unreadable, json_value
from qlora_studio.core.words import say


class BinaryData:
    """Stands in a row for bytes that are not read."""

    def __str__(self) -> str:
        return "(binary data)"


BINARY = BinaryData()


def text_of(value: Any, what: str, notes: RowNotes) -> str:
    """Return a text that is not empty. Raises RowRefused naming `what`."""
    if not isinstance(value, str):
        value = number_as_text(value, notes)
    if not isinstance(value, str):
        raise RowRefused(say("{what} {kind_of}, not text", what=what, kind_of=kind_of(value)))
    if is_blank(value):
        raise RowRefused(say("{what} is empty", what=what))
    return value


def number_as_text(value: Any, notes: RowNotes) -> Any:
    """Return a number as the text that JSON has for it, and anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        text = json.dumps(value)
    except ValueError:  # an int of more digits than Python writes
        return value
    notes.repaired("read a number as text")
    return text


def is_blank(text: str) -> bool:
    """Whether a text holds nothing but white space."""
    return not text or text.isspace()


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words: 'is null', 'is a number (12)'."""
    if value is None:
        return "is null"
    if isinstance(value, bool):
        return f"is {str(value).lower()}"
    if isinstance(value, int | float):
        return f"is a number ({shown(value)})"
    if isinstance(value, str):
        return "is text"
    if isinstance(value, list):
        return "is a list"
    if isinstance(value, BinaryData):
        return "is binary data"
    return "is an object" if isinstance(value, Mapping) else f"is a {type(value).__name__}"


def shown(value: Any) -> str:
    """Return a value for a sentence, short."""
    try:
        text = str(value)
    except ValueError:  # an int of more digits than Python writes
        return "…"
    return text if len(text) <= 40 else text[:40] + "…"


def from_json_text(value: Any, what: str, words: str, notes: RowNotes) -> Any:
    """Return what JSON text says where an object or a list may stand, told as a repair of `words`; else the value.

    Raises RowRefused naming `what` where a text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        parsed = json_value(value.encode("utf-8", "surrogatepass"), limit=len(value) * 4)
    except Unreadable as error:
        raise RowRefused(say("{what} is text, but not JSON", what=what)) from error
    notes.repaired(f"read {words} from JSON text")
    return parsed
