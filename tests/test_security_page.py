"""What docs/SECURITY.md promises names the tests that try the opposite: each is there."""

import ast
import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_PAGE = (_TESTS.parent / "docs" / "SECURITY.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/\S+?)`", _PAGE))))
def test_what_holds_a_promise_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((_TESTS.parent / path).read_text("utf-8"))

    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_held_by_a_test() -> None:
    rows = [row for row in _PAGE.splitlines() if row.startswith("| ") and "Held by" not in row]

    assert len(rows) > 25
    assert [row for row in rows if "tests/" not in row and "| Orders |" not in row] == []
