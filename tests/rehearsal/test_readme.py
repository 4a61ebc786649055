"""The table in README.md says what is rehearsed: a row for each test, and when it runs."""

import ast
import re
from pathlib import Path

_HERE = Path(__file__).parent


def test_the_table_has_a_row_for_each_test_and_says_when_it_runs() -> None:
    rows = re.findall(r"^\|.*\| `(test_\w+)` \| (\w+) \|$", (_HERE / "README.md").read_text("utf-8"), re.MULTILINE)

    assert len(rows) == len(dict(rows)), "a test has two rows"
    assert dict(rows) == _tests()


def _tests() -> dict[str, str]:
    """Return when each test of this folder runs, but for those of this file."""
    found: dict[str, str] = {}
    for path in sorted(_HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and path != Path(__file__):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                found[node.name] = "slow" if "pytest.mark.slow" in marks else "always"
    return found
