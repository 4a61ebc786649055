"""What cannot be seen is made visible: controls, zero-width and bidi characters, line ends."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.ui.kit.text import Run, visible_lines, visible_runs, visible_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("a\u200bb", "a‹ZWSP›b"),
        ("\u202egnp.exe", "‹RLO›gnp.exe"),
        ("\ufeffstart", "‹BOM›start"),
        ("one\ntwo", "one⏎two"),
        ("a\tb", "a⇥b"),
        ("a\u00a0b", "a‹NBSP›b"),
        ("bell\x07", "bell‹U+0007›"),
        ("\u0301x", "◌\u0301x"),
        ("e\u0301", "e\u0301"),
        ("\u3000", "‹U+3000›"),
    ],
)
def test_a_character_without_a_shape_is_shown_by_its_name(text: str, shown: str) -> None:
    assert visible_text(text) == shown


def test_a_line_end_is_marked_and_ends_the_line() -> None:
    assert visible_runs("a\nb") == [Run("a"), Run("⏎", ends_line=True), Run("b")]


def test_a_text_of_several_lines_keeps_them_and_shows_what_is_hidden() -> None:
    assert visible_lines("one\ttwo\n\u202egnp.exe\u200b") == "one\ttwo\n‹RLO›gnp.exe‹ZWSP›"


@given(st.text())
def test_no_text_is_shown_with_a_control_or_format_character_in_it(text: str) -> None:
    shown = visible_text(text)
    assert not [character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")]


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd", "Po"]), min_size=1))
def test_a_text_that_can_be_seen_is_shown_as_it_is(text: str) -> None:
    assert visible_text(text) == text
