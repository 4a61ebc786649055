"""JSON as its standard has it: no NaN, no key twice, no lone surrogates. What Python lets pass is refused in words."""

import json
import re
from typing import Any, NoReturn

from qlora_studio.core.data.values import kind_of
from qlora_studio.core.foreign_text import DEEPEST, depth_of
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.record import RAW_LIMIT, Record

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_VALUES = 2 << 20  # of a row
_MESSAGES = {
    "Expecting value": "a value is missing or not JSON",
    "Expecting ',' delimiter": "a comma is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Illegal trailing comma before end of object": "a comma stands before the closing brace",
    "Illegal trailing comma before end of array": "a comma stands before the closing bracket",
    "Unterminated string starting at": "a text is not closed",
    "Invalid control character at": "a control character stands in a text without its escape",
}


class NotJson(ValueError):
    """A rule of ours that Python's decoder does not hold."""


def json_record(line: int, offset: int, text: str) -> Record:
    """Return the record of a row's text, which has no white space around it."""
    try:
        value, end = raw_decode(text)
    except (ValueError, RecursionError) as error:
        return Record(line, offset, {}, json_fault(error), text[:RAW_LIMIT])
    if end != len(text):
        return Record(
            line, offset, {}, f"not JSON: more text follows at character {end + 1} of the row", text[:RAW_LIMIT]
        )
    return object_record(line, offset, value, text)


def object_record(line: int, offset: int, value: Any, text: str) -> Record:
    """Return the record of a row's value, which was read from `text`."""
    if type(value) is not dict:
        return Record(line, offset, {}, f"the row {kind_of(value)}, not an object", text[:RAW_LIMIT])
    if text.count("[") + text.count("{") > DEEPEST and depth_of(value) > DEEPEST:
        return Record(line, offset, {}, json_fault(RecursionError()), text[:RAW_LIMIT])
    return Record(line, offset, value, surrogate_fault(text, value), text[:RAW_LIMIT])


def raw_decode(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the value that stands there, and where it ends. Raises ValueError and RecursionError."""
    # A list of empty lists takes twenty times as much memory as its text.
    if len(text) - start > _MOST_VALUES and sum(text.count(sign, start) for sign in ",[{") > _MOST_VALUES:
        raise NotJson(say("there are more than {most_values:,} values in it", most_values=_MOST_VALUES))
    return _DECODER.raw_decode(text, start)


def json_fault(error: BaseException, start: int = 0) -> str:
    """Return why a row is not JSON, in words; `start` is where the row begins in the decoder's text."""
    if isinstance(error, json.JSONDecodeError):
        words = _MESSAGES.get(error.msg, error.msg)
        return f"not JSON: {words}, at character {max(0, error.pos - start) + 1} of the row"
    if isinstance(error, RecursionError):
        return "not JSON that can be read: lists or objects are nested too deeply"
    if isinstance(error, NotJson):
        return f"not strict JSON: {error}"
    return "not JSON that can be read: a number has too many digits"


def surrogate_fault(row: str, value: Any) -> str:
    r"""Return the fault of a row in which half of a UTF-16 pair stands alone (`\ud83d`), or nothing."""
    if not _SURROGATE_ESCAPE.search(row):
        return ""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        return json_fault(error)
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        return f"not valid text: \\u{code:04x} is half of a character and stands alone"
    return ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise NotJson(say("the name '{twice}' stands twice in one object", twice=twice[:40]))
    return result


def _constant(name: str) -> NoReturn:
    raise NotJson(say("{name} is not a JSON number", name=name))


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
