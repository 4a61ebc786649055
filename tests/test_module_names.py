"""Names of modules that stand in strings, where no linter sees them move."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import qlora_studio

_PRODUCT = Path(qlora_studio.__file__).parent
_ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"\bqlora_studio(?:\.\w+)+")


def test_every_module_that_a_string_of_the_product_names_is_there() -> None:
    named = {name: path for path in _PRODUCT.rglob("*.py") for text in _strings(path) for name in _NAME.findall(text)}

    assert "qlora_studio.ui.wiring" in named
    assert {name: path for name, path in named.items() if not _is_module(name)} == {}


@pytest.mark.parametrize("file", ["pyproject.toml", "Makefile"])
def test_every_module_that_a_tool_is_told_of_is_there(file: str) -> None:
    named = set(_NAME.findall((_ROOT / file).read_text("utf-8")))

    assert named
    assert {name for name in named if not _is_module(name)} == set()


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_module(name: str) -> bool:
    place = _PRODUCT.joinpath(*name.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()
