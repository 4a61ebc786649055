"""Writes THIRD_PARTY.md from what is installed and pinned: `python -m tests.third_party_page` (`make third-party`)."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "THIRD_PARTY.md"
CONSTRAINTS = _ROOT / "packaging" / "constraints.txt"
_OURS = "qlora-studio"
_LEAST_WORDS = 60  # a licence's name is shorter than its text

_HEAD = """\
# Licences of what QLoRA Studio uses

QLoRA Studio is under Apache-2.0 ([LICENSE](LICENSE)). Of others, its packages hold the typeface Inter alone, under the
SIL Open Font License 1.1 (its text lies beside it, in `resources/fonts`): what else it needs is fetched from the
Python package index when it is installed. This page lists all of that, with what each package says of its
own licence; `make third-party` writes it from what is installed and pinned.

## What follows of them

- **Qt and PySide6** are under the LGPL 3. They are used as they are published, as libraries of their own that Python
  loads when it runs, and anybody may put another build in their place: `pip install` of another PySide6-Essentials
  does it, and nothing in this program hinders that. Whoever passes on a folder, an image or an installer *with
  PySide6 inside* has to pass on the texts of LGPL 3 and GPL 3 too (they lie in the package's own metadata), say that
  Qt is used, offer its source or say where Qt publishes it, and leave the libraries replaceable. The packages that
  are built here have it not inside.
- **certifi and tqdm** are under the MPL 2.0, which asks for the source of *their* files where changed ones are passed
  on. None is changed.
- **NVIDIA's libraries**, which come with PyTorch's CUDA builds on Linux, are proprietary. NVIDIA lets them be used
  and passed on as parts of an application, under its own agreement; they are fetched from the index and never packed
  here. Triton, which comes with them, is under MIT.
- **All others** are under licences that ask for their notice to be kept: it is in each package's `dist-info` folder.
- **Models and data** have licences of their own, which the Model page and the model card of an export name. The
  starter model, SmolLM2, is under Apache-2.0; the starter dataset was written for this program and is under its
  licence.

## Packages

| Package | Version | Licence, as it says itself |
|---|---|---|
"""


def page() -> str:
    """Return the page."""
    return _HEAD + "".join(f"| {name} | {version} | {licence} |\n" for name, version, licence in sorted(_rows()))


def pins() -> dict[str, list[str]]:
    """Return the pinned versions of each package: more than one where Pythons differ."""
    found: dict[str, list[str]] = {}
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        name, equal, rest = line.partition("==")
        if equal and not line.startswith("#"):
            found.setdefault(normal(name), []).append(rest.partition(";")[0].strip())
    return found


def normal(name: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def needed() -> dict[str, Distribution]:
    """Return what the program needs, extras included and tools for working on it not, of what is installed."""
    found: dict[str, Distribution] = {}
    waiting = [(_OURS, frozenset({"", "llama-cpp"}))]
    while waiting:
        name, extras = waiting.pop()
        try:
            package = found[normal(name)] = distribution(name)
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, package.requires or []):
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras
            )
            if wanted and normal(requirement.name) not in found:
                waiting.append((requirement.name, frozenset({"", *requirement.extras})))
    del found[_OURS]
    return found


def _rows() -> Iterator[tuple[str, str, str]]:
    installed, pinned = needed(), pins()
    for name, package in installed.items():
        yield name, ", ".join(pinned.get(name, [package.version.partition("+")[0]])), licence(package)


def licence(package: Distribution) -> str:
    """Return what a package says of its licence: the expression, else the field, else its classifiers."""
    told = package.metadata.json
    said, field = (str(told.get(name) or "").strip().partition("\n")[0] for name in ("license_expression", "license"))
    names = [text.rpartition("::")[2].strip() for text in told.get("classifier", []) if text.startswith("License ::")]
    return said or (field if 0 < len(field) < _LEAST_WORDS else "") or ", ".join(names) or "not said"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Written: {PAGE}", file=sys.stderr)
