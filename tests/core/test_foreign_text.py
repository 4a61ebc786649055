"""JSON and TOML of others: what is said is returned, and what could hurt is refused before it does."""

import json
import math
import tomllib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.foreign_text import DEEPEST, Unreadable, json_table, json_value, toml_table


def test_what_a_json_text_says_is_returned() -> None:
    assert json_table('\ufeff{"a": [1, 2.5, null, "]]]["]}'.encode()) == {"a": [1, 2.5, None, "]]]["]}


def test_a_text_nested_as_deep_as_is_allowed_is_read() -> None:
    text = "[" * DEEPEST + "]" * DEEPEST
    assert json_value(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested"),
        ('{"a":' * 100_000, "nested"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 5000 + "}", "too long"),
        ('{"a": 1', "line 1"),
        ("[1]", "no table"),
        ('{"a": "\\ud83d"}', "half of a sign"),
        ("[" + "0," * 1_000_000 + "0]", "more than 1,000,000 values"),
        ("", "JSON"),
    ],
)
def test_json_that_could_hurt_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        json_table(text.encode())


def test_both_halves_of_a_sign_are_one() -> None:
    assert json_table(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_infinity_is_a_number_where_it_is_asked_for_and_nan_never() -> None:
    assert json_value(b"[-Infinity]", infinite=True) == [-math.inf]
    with pytest.raises(Unreadable, match="NaN"):
        json_value(b"[NaN]", infinite=True)


def test_a_key_that_is_said_twice_is_refused_where_it_is_asked_for() -> None:
    assert json_table(b'{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(Unreadable, match="twice"):
        json_table(b'{"a": 1, "a": 2}', unique=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = nan", "nan"),
        ("a = 1e999", "1e999"),
        ("a = " + "[" * 500 + "]" * 500, "nested"),
        ("a" + ".a" * 200 + " = 1", "nested"),
        ("a = ", "TOML"),
        ("a = " + "9" * 5000, "too long"),
    ],
)
def test_toml_that_could_hurt_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        toml_table(text.encode())


def test_bytes_that_are_no_text_are_refused_with_their_place() -> None:
    with pytest.raises(Unreadable, match="byte 2"):
        json_value(b'"\x41\xff"')


def test_a_text_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        json_value(b" " * ((1 << 20) + 1), limit=1 << 20)


@pytest.mark.timeout(60)  # for ever, where each quote is looked at again
def test_a_long_string_that_never_ends_is_looked_at_once() -> None:
    with pytest.raises(Unreadable):
        json_value(b'"\\' * 2_000_000)


_TOML_LINES = st.sampled_from(
    (
        *(
            "[a]",
            "[a.b]",
            "[b]",
            "[a] # more",
            "[[a]]",
            '["a"]',
            "[ a ]",
            "[a.b.c]",
            "x = 1",
            "x = 2",
            "y = [1, 'two', true]",
        ),
        *(
            'x = "a\\tb"',
            "z = [",
            "  1,",
            "]",
            'y = """',
            '"""',
            "b = 3",
            "b.c = 4",
            "a.x = 5",
            "y = [[1]]",
            "y = {a = 1}",
        ),
        *(
            "",
            "# said",
            "x = 1979-05-27",
            "x = inf",
            "x = 1_000",
            "x",
            "\r",
            "x = 1\r",
            "y = '''b = 1'''",
            "é = 1",
            "x = 0x1F",
        ),
    )
)


@given(st.lists(_TOML_LINES, max_size=8))
def test_toml_that_is_read_line_by_line_says_what_it_says_as_a_whole(lines: list[str]) -> None:
    text = "\n".join(lines)
    expected: dict[str, Any] | None = None
    with suppress(tomllib.TOMLDecodeError):
        expected = tomllib.loads(text)
    try:
        found = toml_table(text.encode())
    except Unreadable:
        assert expected is None or "inf" in text
    else:
        assert found == expected


def test_whoever_changes_what_was_read_of_a_toml_text_changes_it_for_nobody_else() -> None:
    text = b"[a]\nb = [1]"
    toml_table(text)["a"]["b"].append(2)
    assert toml_table(text) == {"a": {"b": [1]}}
