"""What packaging/README.md says agrees with what is pinned, and with the README."""

import re
from pathlib import Path

from qlora_studio.core.torch_builds import BUILDS, OLDEST_CAPABILITY
from qlora_studio.storage.qt_libraries import PACKAGES

_ROOT = Path(__file__).resolve().parents[2]
_RECIPES = (_ROOT / "packaging" / "README.md").read_text("utf-8")


def test_the_windows_recipe_installs_the_pytorch_that_is_pinned() -> None:
    """With another version there, `-c constraints.txt` would replace the CUDA build by PyPI's, for the processor."""
    constraints = (_ROOT / "packaging" / "constraints.txt").read_text("utf-8")
    pinned = re.findall(r"^torch(==\S+)$", constraints, re.MULTILINE)

    assert len(pinned) == 1
    recipe = r"install torch(\S*) --index-url (\S+)$"
    assert re.findall(recipe, _RECIPES, re.MULTILINE) == [(pinned[0], BUILDS[0].index)]
    assert re.findall(r"--extra-index-url (\S+?)[`\"]", _RECIPES) == [BUILDS[0].index, BUILDS[1].index]


def test_which_models_fit_which_card_is_said_in_the_readme_alone() -> None:
    readme = (_ROOT / "README.md").read_text("utf-8")

    assert re.search(r"^\| 24 GB \| \d+B \|$", readme, re.MULTILINE)
    assert "## What it needs\n" in readme and "(../README.md#what-it-needs)" in _RECIPES
    assert re.findall(r"\b\d+B\b", _RECIPES) == []


def test_the_table_of_builds_is_the_one_that_is_chosen_by() -> None:
    rows = re.findall(
        r"^\| (cu\d+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+): .* \| ([\d.]+) \| ([\d.]+) \|$", _RECIPES, re.M
    )

    assert rows == [
        (
            build.name,
            build.cuda,
            _dotted(max(build.oldest, OLDEST_CAPABILITY)),
            _dotted(build.newest),
            _dotted(build.linux_driver, 2),
            _dotted(build.windows_driver, 2),
        )
        for build in BUILDS
    ]


def test_every_pin_is_exact_and_names_no_address() -> None:
    """Not even in a comment: an index of one's own belongs into no file of the project."""
    lines = (_ROOT / "packaging" / "constraints.txt").read_text("utf-8").splitlines()[1:]

    assert len(lines) > 80
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+( ; [^/@]+)?", line)] == []
    assert [line for line in lines if re.match(r"cuda-|nvidia-(?!ml-py)|triton", line)] == []


def test_every_package_of_debian_that_is_named_is_one_that_brings_what_qt_takes() -> None:
    named = set(re.findall(r"\blib[\w-]+\d\b", _RECIPES.partition("sudo apt install lib")[2].partition("```")[0]))
    known = {debian for debian, _fedora in PACKAGES.values()} | {"libxcb-randr0", "libxcb-shape0"}

    assert named and named <= known


def _dotted(numbers: tuple[int, ...], width: int = 1) -> str:
    return ".".join(f"{number:0{width}}" if place else str(number) for place, number in enumerate(numbers))
