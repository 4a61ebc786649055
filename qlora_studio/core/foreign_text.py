"""JSON and TOML that somebody else wrote, read within limits: of depth, of what a number may be, of nothing run on.

What comes out are plain values, finite numbers and text that can be written again; all else is `Unreadable`.
"""

import json
import math
import re
import tomllib
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn

from qlora_studio.core.words import say

DEEPEST = 64  # tables and lists inside each other; the deepest that the libraries write has a dozen
LARGEST_JSON = 16 << 20  # bytes
MOST_VALUES = 1_000_000  # the vocabulary of a tokenizer has half as many
LARGEST_TOML = 1 << 20  # bytes; a run.toml with its template has some thousands
_LONGEST_LINE = 512  # characters of a line of TOML that is known again

# A string that never ends is matched to its end too: nothing is looked at twice.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.S)
_TOML_END = re.compile(r"\n(?![ \]])")  # of a line; what is indented, and what closes a list, goes with the one before
_TOML_HEADING = re.compile(r"\[([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\]")
_HALF_SIGN = re.compile(rb"\\u[dD][89a-fA-F]")  # of a pair that stands for one sign, as many emoji are written


class Unreadable(ValueError):
    """A text that is not what it should be; its message says why, as the end of a sentence ("it is nested …")."""


def json_value(
    data: bytes, *, limit: int = LARGEST_JSON, most: int = MOST_VALUES, unique: bool = False, infinite: bool = False
) -> Any:
    """Return what a JSON text says, of at most so many values. Raises Unreadable.

    `unique` refuses tables that say a key twice; `infinite` takes Infinity, which some libraries write, as a number.
    """
    text = _decoded(data, limit)
    if sum(map(data.count, b"[{,")) > most:  # each value stands behind one of them: what it takes in memory is bounded
        raise Unreadable(say("it holds more than {most:,} values", most=most))
    _refuse_depth(data)
    try:
        found = json.loads(
            text,
            parse_constant=_infinite if infinite else _refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique if unique else None,
        )
    except Unreadable:
        raise
    except json.JSONDecodeError as error:
        raise Unreadable(
            say("it is no valid JSON (line {lineno}: {msg})", lineno=error.lineno, msg=error.msg)
        ) from error
    except (ValueError, RecursionError) as error:  # a number of more digits than Python reads
        raise Unreadable(say("it holds a number that is too long")) from error
    if _HALF_SIGN.search(data):
        _refuse_half_signs(found)
    return found


def json_table(data: bytes, **limits: Any) -> dict[str, Any]:
    """Return the table that a JSON text is. Raises Unreadable, as `json_value` does."""
    value = json_value(data, **limits)
    if not isinstance(value, dict):
        raise Unreadable(say("it is no table"))
    return value


def toml_table(data: bytes, *, limit: int = LARGEST_TOML) -> dict[str, Any]:
    """Return the table that a TOML text is. Raises Unreadable."""
    text = _decoded(data, limit)
    try:
        if (table := _plain_table(text)) is None:
            table = tomllib.loads(text, parse_float=_finite)
    except Unreadable:
        raise
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(say("it is no valid TOML: {error}", error=error)) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(say("it holds a number that is too long, or is nested too deeply")) from error
    if depth_of(table) > DEEPEST:
        raise Unreadable(say("it is nested more than {deepest} deep", deepest=DEEPEST))
    return table


def depth_of(value: object) -> int:
    """Return how deep tables and lists lie in each other, without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting and deepest <= DEEPEST:
        found, depth = waiting.pop()
        if isinstance(found, dict | list):
            deepest = max(deepest, depth)
            waiting += [(item, depth + 1) for item in (found.values() if isinstance(found, dict) else found)]
    return deepest


def _decoded(data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise Unreadable(say("it is larger than {limit} MiB", limit=limit >> 20))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(say("byte {start} is no UTF-8", start=error.start)) from error


def _refuse_depth(data: bytes) -> None:
    """Count brackets outside of strings before anything recurses into them."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return
    depth = 0
    for found in _STRUCTURE.finditer(data):
        sign = found[0]
        if sign in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise Unreadable(say("it is nested more than {deepest} deep", deepest=DEEPEST))
        elif sign in b"]}":
            depth -= 1


def _plain_table(text: str) -> dict[str, Any] | None:
    """Return the table of a TOML text whose every line can be read by itself; None for any other, and for a wrong one.

    Such is a run.toml, and a thousand of them have most lines in common, of which each is read once. Where a line is
    only part of what is said, it cannot be read.
    """
    inside = table = dict[str, Any]()
    with suppress(ValueError, RecursionError):
        for line in _TOML_END.split(text):
            if heading := _TOML_HEADING.fullmatch(line):
                inside = _opened(table, heading[1].split("."))
                continue
            for key, value in _toml_line(line):
                if key in inside:
                    return None
                inside[key] = list(value) if isinstance(value, tuple) else value
        return table
    return None


def _opened(table: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Open a table under a heading that was not there before, in one that was. Raises ValueError."""
    *above, name = names
    for step in above:
        table = table[step] if isinstance(table.get(step), dict) else _refuse(step)
    if name in table:
        _refuse(name)
    opened = table[name] = dict[str, Any]()
    return opened


@lru_cache(maxsize=2048)
def _toml_line(line: str) -> tuple[tuple[str, Any], ...]:
    """Return what a line says by itself: nothing, or a key and a plain value, or several. Raises ValueError."""
    if len(line) > _LONGEST_LINE:
        _refuse(line)
    return tuple((key, _plain(value)) for key, value in tomllib.loads(line, parse_float=_finite).items())


def _plain(value: object) -> Any:
    """Return a value that nobody can change. Raises ValueError for tables, also those in lists."""
    if isinstance(value, list):
        return tuple(item if isinstance(item, str | int | float) else _refuse(item) for item in value)
    return value if isinstance(value, str | int | float) else _refuse(value)


def _refuse(what: object) -> NoReturn:
    raise ValueError(what)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable(say("{text} is no finite number", text=text[:20]))
    return number


def _infinite(word: str) -> float:
    return _refuse_constant(word) if word == "NaN" else float(word)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable(say("it says something twice"))
    return found


def _refuse_half_signs(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unreadable(say("it holds half of a sign, which is no text")) from error


def _refuse_constant(word: str) -> NoReturn:
    raise Unreadable(say("{word} is no finite number", word=word))
