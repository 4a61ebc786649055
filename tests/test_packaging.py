"""What packaging/README.md says agrees with what is pinned, and with the README."""

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_RECIPES = (_ROOT / "packaging" / "README.md").read_text("utf-8")


def test_the_windows_recipe_installs_the_pytorch_that_is_pinned() -> None:
    """With another version there, `-c constraints.txt` would replace the CUDA build by PyPI's, for the processor."""
    constraints = (_ROOT / "packaging" / "constraints.txt").read_text("utf-8")
    pinned = re.findall(r"^torch(==\S+)$", constraints, re.MULTILINE)

    assert len(pinned) == 1
    recipe = r"install torch(\S*) --index-url https://download\.pytorch\.org/whl/cu\d+$"
    assert re.findall(recipe, _RECIPES, re.MULTILINE) == pinned


def test_which_models_fit_which_card_is_said_in_the_readme_alone() -> None:
    readme = (_ROOT / "README.md").read_text("utf-8")

    assert re.search(r"^\| 24 GB \| \d+B \|$", readme, re.MULTILINE)
    assert "## What it needs\n" in readme and "(../README.md#what-it-needs)" in _RECIPES
    assert re.findall(r"\b\d+B\b", _RECIPES) == []
