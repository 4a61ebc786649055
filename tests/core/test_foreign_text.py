"""JSON and TOML of others: what is said is returned, and what could hurt is refused before it does."""

import json

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
        ("", "JSON"),
    ],
)
def test_json_that_could_hurt_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        json_table(text.encode())


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
