"""What an update takes over from the environment in use: the packages that stay the same, as links to the same bytes.

So an update downloads what is new in it, and not PyTorch again; and where the disk can link, it takes no room twice.
"""

import os
import shutil
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from qlora_studio.bootstrap.places import Environment
from qlora_studio.bootstrap.plan import Piece, package_name


def taken_over(old: Environment, new: Environment, pieces: Iterable[Piece]) -> set[str]:
    """Take over each package that is there whole, of the same version; return their names."""
    wanted = {piece.name: piece.version for piece in pieces}
    taken = set()
    for package in distributions(path=[str(old.packages)]):
        name = package_name(package.metadata["Name"])
        if wanted.get(name) == package.version and _is_whole(package, old):
            _take(package, old, new)
            taken.add(name)
    return taken


def _is_whole(package: Distribution, old: Environment) -> bool:
    """Whether its files are as long as its own list says: none was cut off, none was changed by hand."""
    files = package.files
    if not files:
        return False
    sizes = [(old.packages / file, file.size) for file in files]
    return all(path.is_file() and size in (None, path.stat().st_size) for path, size in sizes)


def _take(package: Distribution, old: Environment, new: Environment) -> None:
    for file in package.files or []:
        source, target = (Path(os.path.normpath(place.packages / file)) for place in (old, new))
        target.parent.mkdir(parents=True, exist_ok=True)
        if new.packages not in target.parents:
            _take_program(source, target, old, new)
            continue
        try:
            os.link(source, target)
        except OSError:  # a disk without links
            shutil.copy2(source, target)


def _take_program(source: Path, target: Path, old: Environment, new: Environment) -> None:
    """Take over what lies outside of the packages: programs, which begin with the path of their Python."""
    content = source.read_bytes()
    if content.startswith(b"#!"):
        content = content.replace(os.fsencode(old.folder), os.fsencode(new.folder))
    target.write_bytes(content)
    shutil.copymode(source, target)
