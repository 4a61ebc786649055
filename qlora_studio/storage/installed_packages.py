"""Whether the packages that this program stands on are here and whole, by what each says of itself.

A disk that became full, a power cut or a killed installer leaves files cut short, or a package without its record.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qlora_studio.core.words import say, say_count
from qlora_studio.storage.installation import pinned, torn_record

PROGRAM = "qlora-studio"
_WINDOW_ALONE = ("pyside6-essentials", "shiboken6", "pyqtgraph")  # without them the rest works


@dataclass(frozen=True)
class Harm:
    """A package that is not as it should be: what is wrong with it, and what pip is told to install for it.

    One of another version than is asked for may work all the same: that is not grave.
    """

    package: str
    what: str
    mend: str
    is_grave: bool = True


def harmed_packages(program: str = PROGRAM) -> list[Harm]:
    """Return what is missing, too old or not whole, of a program and of all that it asks for, and that in turn."""
    return [harm for requirement in _required(program) if (harm := _harm(requirement))]


def _required(program: str) -> Iterator[Requirement]:
    """Yield the program and what it takes on this Python and system, each package once."""
    wanted, seen = [Requirement(program)], set[tuple[str, frozenset[str]]]()
    while wanted:
        requirement = wanted.pop(0)
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        if not any(name == before for before, _ in seen):
            yield requirement
        seen.add((name, extras))
        wanted += _asked_by(requirement)


def _asked_by(requirement: Requirement) -> list[Requirement]:
    try:
        asked = [Requirement(text) for text in distribution(requirement.name).requires or ()]
    except PackageNotFoundError:
        return []
    extras = requirement.extras or {""}
    return [
        asks for asks in asked if not asks.marker or any(asks.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def _harm(requirement: Requirement) -> Harm | None:
    name, wanted = canonicalize_name(requirement.name), requirement.specifier
    pin = pinned(name)
    mend = pin if pin != name else f"{name}{wanted}"
    try:
        found = distribution(name)
    except PackageNotFoundError:
        is_told = name not in (PROGRAM, *_WINDOW_ALONE)
        return Harm(name, say("{name} is not here", name=name), mend) if is_told else None
    if torn_record(name):
        return Harm(name, say("{name} was installed half", name=name), mend)
    if found.version and not wanted.contains(found.version, prereleases=True):
        what = say("{name} is {found}, and {wanted} is needed", name=name, found=found.version, wanted=wanted)
        return Harm(name, what, mend, is_grave=False)
    return Harm(name, _words(name, harmed), mend) if (harmed := _harmed_files(found)) else None


def _harmed_files(found: Distribution) -> list[str]:
    """Return the files that are gone or shorter than they were installed; what a user added to one harms nothing, and
    Python writes its own `.pyc` anew."""
    packages = Path(str(found.locate_file("")))
    rows = (row for row in csv.reader((found.read_text("RECORD") or "").splitlines()) if len(row) == 3)
    sized = ((name, int(size)) for name, _, size in rows if size.isdigit() and not name.endswith(".pyc"))
    return [name for name, size in sized if _size(packages / name) < size]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _words(name: str, files: list[str]) -> str:
    return say_count(
        len(files),
        "a file of {name} is gone or cut short, {first}",
        "{count:,} files of {name} are gone or cut short, {first} among them",
        name=name,
        first=files[0],
    )
