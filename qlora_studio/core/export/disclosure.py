"""What a text tells of the computer and the person it was written by: folders, and names."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Folders that hold somebody's files. `/path/to`, as commands in a model card have it, is none.
_FOLDER = re.compile(
    r"(?<![\w.:/-])(?:/(?:home|Users|root|tmp|var|mnt|media|Volumes|private|work|opt|srv)/[^\s\"'`,;)]+"
    r"|[A-Za-z]:[\\/]+[^\s\"'`,;)]+|~/[^\s\"'`,;)]+)"
)
_COMMON_NAMES = {"root", "user", "admin", "administrator", "ubuntu", "debian", "fedora", "home"}
_SHORTEST_NAME = 3


@dataclass(frozen=True)
class Disclosure:
    """What was found, and in which line, counted from 1."""

    line: int
    text: str


def disclosures(
    text: str, *, folders: Iterable[str], names: Iterable[str], any_folder: bool = True
) -> Iterator[Disclosure]:
    """Yield every mention of these folders or names, and with `any_folder` of whatever looks like somebody's folder.

    A name counts as a whole word; names that many computers share are passed over.
    """
    told = [name for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in _COMMON_NAMES]
    words = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in told)) if told else None
    exact = [folder for folder in folders if len(folder) > 1]
    for number, line in enumerate(text.splitlines(), start=1):
        yield from (Disclosure(number, folder) for folder in exact if folder in line)
        if any_folder:
            yield from (Disclosure(number, found[0]) for found in _FOLDER.finditer(line))
        if words:
            yield from (Disclosure(number, found[0]) for found in words.finditer(line))
