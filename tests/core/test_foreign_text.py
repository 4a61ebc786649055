"""JSON and TOML of others: what is said is returned, and what could hurt is refused before it does."""

import json
import math

import pytest

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
