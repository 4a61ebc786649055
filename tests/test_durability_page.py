"""What docs/DURABILITY.md promises names the tests that hold it: each is there."""

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_PAGE = (_TESTS.parent / "docs" / "DURABILITY.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/\S+?)`", _PAGE))))
def test_what_holds_a_promise_is_there(path: str) -> None:
    assert (_TESTS.parent / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?!tests/)\w+/\S*test_\w+)`", _PAGE))))
def test_what_holds_a_row_of_the_table_is_there(name: str) -> None:
    room, _, file = name.partition("/")

    assert list((_TESTS / room).rglob(f"{file.rpartition('/')[2]}.py"))


def test_every_row_of_the_table_is_held_by_a_test() -> None:
    table = _PAGE.partition("## What happens when")[2].partition("## What it costs")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]

    assert len(rows) > 20
    assert [row for row in rows if "test_" not in row.rpartition(" | ")[2]] == []
