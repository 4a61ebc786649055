"""docs/EXTENDING.md is true: its files are there, are few, and nobody else keeps a table of the same names."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from qlora_studio.core.config.optimizer import OPTIMIZERS
from qlora_studio.core.data.formats import FORMATS
from qlora_studio.core.export.formats import EXPORT_KINDS
from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.gguf_family import GGUF_FAMILIES
from qlora_studio.core.run.metric import METRICS
from tests.engine.gguf.exact_models import EXACT

_ROOT = Path(__file__).resolve().parent.parent
_PRODUCT = _ROOT / "qlora_studio"
_MOST = {
    "An optimizer": 3,
    "A dataset format": 2,
    "An export format": 4,
    "A model family": 4,
    "A plot metric": 2,
    "A check": 2,
    "A card on a page": 3,
}
# Names that mean something else as well: columns, folders, file formats, other programs' words for other things.
_AMBIGUOUS = {"messages", "text", "safetensors", "adapter", "gguf", "llama", "qwen2", "qwen35"}
_NAMES = {
    "An optimizer": {*OPTIMIZERS},
    "A dataset format": {*FORMATS} - _AMBIGUOUS,
    "An export format": {*EXPORT_KINDS} - _AMBIGUOUS,
    "A model family": {*FAMILIES, *(item.architecture for name, item in GGUF_FAMILIES.items() if name in FAMILIES)}
    - _AMBIGUOUS,
}


class Recipe(NamedTuple):
    """A recipe of the page: the product's files that change, every path it names, and how many files it allows."""

    files: list[str]
    paths: list[str]
    most: int


def _recipes() -> dict[str, Recipe]:
    _, *sections = (_ROOT / "docs" / "EXTENDING.md").read_text("utf-8").split("\n## ")
    return {
        title: Recipe(
            files=re.findall(r"^- `(qlora_studio/[^`]+)`", text, re.MULTILINE),
            paths=re.findall(r"`((?:qlora_studio|tests)/[^`]+)`", text),
            most=int(re.search(r"^At most (\d+) files", text, re.MULTILINE)[1]),  # type: ignore[index]
        )
        for title, _, text in (section.partition("\n") for section in sections)
    }


@cache
def _trees() -> dict[str, ast.Module]:
    files = sorted(_PRODUCT.rglob("*.py"))
    return {path.relative_to(_ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


def _texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _literals(tree: ast.AST) -> Iterator[set[str]]:
    """Yield the texts of each collection that is written out: of a dict, its keys."""
    for node in ast.walk(tree):
        items: Iterable[ast.AST | None] = ()
        if isinstance(node, ast.Dict):
            items = node.keys
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = node.elts
        yield {text.value for text in items if isinstance(text, ast.Constant) and isinstance(text.value, str)}


def test_there_is_a_recipe_for_each_kind_of_thing_and_it_allows_few_files() -> None:
    assert {title: recipe.most for title, recipe in _recipes().items()} == _MOST


@pytest.mark.parametrize("title", _MOST)
def test_a_recipe_names_files_that_are_there_and_no_more_than_it_says(title: str) -> None:
    recipe = _recipes()[title]
    assert 1 <= len(set(recipe.files)) == len(recipe.files) <= recipe.most
    assert set(recipe.paths) > set(recipe.files)  # and a test
    assert [path for path in recipe.paths if not (_ROOT / path).is_file()] == []


@pytest.mark.parametrize("title", _NAMES)
def test_what_a_record_names_is_named_in_no_other_module(title: str) -> None:
    files = _recipes()[title].files
    found = {path: names for path, tree in _trees().items() if (names := _NAMES[title] & set(_texts(tree)))}
    assert files[0] in found
    assert {path: names for path, names in found.items() if path not in files} == {}


def test_no_other_module_lists_the_numbers_that_are_plotted() -> None:
    """Series are asked for by name, one at a time; two names side by side would be a second table."""
    fields = {*METRICS} | {metric.rather for metric in METRICS.values()} - {""}
    second = [path for path, tree in _trees().items() if any(len(fields & texts) > 1 for texts in _literals(tree))]
    assert second == []


def test_no_module_tells_kinds_of_exports_apart_by_their_names() -> None:
    asked = [
        f"{path}:{node.lineno}"
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith("shape.kind")
    ]
    assert asked == []


def test_every_family_that_is_written_as_a_gguf_is_tested_end_to_end() -> None:
    written = set(GGUF_FAMILIES)
    tested = {name.partition("+")[0] for name in EXACT}
    assert written == (tested | {f"{name}_text" for name in tested}) & GGUF_FAMILIES.keys()
    assert all(name in written or f"{name}_text" in written or name == "llava" for name in tested)  # that holds a llama
