"""What holds for every text that is said: it can be read out of the sources, and has the fields that it is given."""

import ast
import subprocess
import sys
from pathlib import Path

from qlora_studio.core.words import fields
from tests.words.messages import PACKAGE, messages, unreadable_calls

_BEFORE_THE_LANGUAGE = "import sys, qlora_studio.__main__, qlora_studio.cli.console, qlora_studio.storage.languages; "


def test_every_text_that_is_said_stands_there_as_a_literal() -> None:
    assert unreadable_calls() == []


def test_every_text_has_just_the_fields_that_it_is_given() -> None:
    for message in messages():
        named = {name for text in message.texts for name, _, _ in fields(text) or ()} if message.values else set()
        assert named == message.values or named | {"count"} == message.values, message


def test_nothing_is_said_before_the_language_is_chosen() -> None:
    names = "print(*(m for m in sys.modules if m.startswith('qlora_studio')))"
    told = subprocess.run([sys.executable, "-c", _BEFORE_THE_LANGUAGE + names], capture_output=True, text=True)
    loaded = told.stdout.split()
    assert "qlora_studio.core.errors" in loaded
    assert [name for name in loaded if _speaks_when_imported(name)] == []


def _speaks_when_imported(module: str) -> bool:
    path = PACKAGE.parent / (module.replace(".", "/") + ".py")
    return path.is_file() and any(map(_says, _run_at_import(path)))


def _run_at_import(path: Path) -> list[ast.AST]:
    """Return all nodes outside of functions, and those of their defaults."""
    found, left = [], list[ast.AST](ast.parse(path.read_text(encoding="utf-8")).body)
    while left:
        node = left.pop()
        found.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left.append(node.args)
        else:
            left += ast.iter_child_nodes(node)
    return found


def _says(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "say_count")
