"""Values within a row, and what is wrong with one, in words."""

import json
from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_verdict import RowRefused

Repairs = dict[str, None]  # an ordered set of what was changed, in words


class BinaryData:
    """Stands in a row for bytes that are not read."""

    def __str__(self) -> str:
        return "(binary data)"


BINARY = BinaryData()


def text_of(value: Any, what: str) -> str:
    """Return a text that is not empty. Raises RowRefused naming `what`."""
    if not isinstance(value, str):
        raise RowRefused(f"{what} {kind_of(value)}, not text")
    if not value or value.isspace():
        raise RowRefused(f"{what} is empty")
    return value


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


def parsed_json(text: str, what: str) -> Any:
    """Return what JSON text within a row says. Raises RowRefused."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowRefused(f"{what} is text, but not JSON") from error
