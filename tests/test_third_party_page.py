"""THIRD_PARTY.md names the licence of all that is pinned and needed, and what follows of it."""

import re

import pytest

from tests.third_party_page import PAGE, licence, needed, normal, page, pins

_TEXT = PAGE.read_text("utf-8")
_ROWS = {
    normal(name): (version, words)
    for name, version, words in re.findall(r"^\| ([^|]+) \| ([^|]+) \| (.+) \|$", _TEXT, re.M)
}


def test_the_page_is_true_to_what_is_installed_and_pinned() -> None:
    assert page() == _TEXT, "run `make third-party`"


def test_every_package_that_the_program_needs_has_a_row_with_the_version_that_is_pinned() -> None:
    pinned = pins()
    assert len(_ROWS) > 50
    for name in needed():
        assert _ROWS[name][0] == ", ".join(pinned[name]), name


def test_every_row_says_a_licence() -> None:
    assert [name for name, (_version, words) in _ROWS.items() if words == "not said" or not words.strip()] == []


def test_a_licence_that_is_not_permissive_is_spoken_of() -> None:
    above = _TEXT.partition("## Packages")[0]
    for name, (_version, words) in _ROWS.items():
        if re.search(r"GPL|MPL|Mozilla|proprietary", words) and name not in ("shiboken6", "pyside6-essentials"):
            assert re.search(rf"\b{name}\b|NVIDIA", above), name
    assert "LGPL" in _ROWS["pyside6-essentials"][1] and "**Qt and PySide6** are under the LGPL 3" in above


@pytest.mark.parametrize("name", ["torch", "pyside6-essentials", "wakepy"])
def test_a_licence_is_its_name_and_never_its_text(name: str) -> None:
    assert 2 < len(licence(needed()[name])) < 150


def test_what_the_packages_hold_of_others_is_named_with_its_licence() -> None:
    fonts = PAGE.parent / "resources" / "fonts"

    assert [path.name for path in fonts.iterdir() if path.suffix == ".otf" and not path.name.startswith("Inter-")] == []
    assert "Open Font License" in (fonts / "OFL.txt").read_text("utf-8") and "typeface Inter" in _TEXT
