"""Whether a place can take runs: reached, with a scheduler, a program of a version that is understood, and a folder."""

import json
import re
import threading
from dataclasses import dataclass

from qlora_studio import __version__
from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.place import FULL_PATH, Place
from qlora_studio.core.run.message import PROTOCOL_VERSION
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.connection import Connection

_ABOUT = re.compile(r'^\{.*"studio".*\}$', re.MULTILINE)
_MOST_PARTITIONS = 100


@dataclass(frozen=True)
class Partition:
    """Nodes that jobs of one kind go to: `cards` is what a node has, such as gpu:a100:4, or nothing."""

    name: str
    time_limit: str
    nodes: int
    cards: str
    is_up: bool


@dataclass(frozen=True)
class PlaceReport:
    """What was found at a place. `studio` is the version there, empty without one; `problems` keep runs from going."""

    home: str
    studio: str
    partitions: tuple[Partition, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether runs can be sent."""
        return not self.problems


def check_place(place: Place, stop: threading.Event | None = None) -> PlaceReport:
    """Return what is at a place; its folder is made there if need be. Raises StudioError where it is not reached, or
    `stop` is set."""
    script = shell.check(place.folder, place.setup, place.program)
    found = {part.name: part for part in Connection(place, stop).ask(script, login=True)}
    studio, protocol = _about(found["about"].text)
    partitions = tuple(_partitions(found["partitions"].text)) if found["partitions"].numbers == (0,) else ()
    problems = []
    if found["writable"].numbers != (0,):
        problems.append(say("Nothing can be written in {folder} there.", folder=found["home"].text))
    if not re.search(FULL_PATH, found["home"].text):
        problems.append(
            say(
                "{folder} cannot stand in a job script: choose a folder of plain letters, digits, dots and dashes.",
                folder=found["home"].text,
            )
        )
    if not partitions:
        problems.append(say("No scheduler answers there: `sinfo` says nothing."))
    elif place.partition and place.partition not in {item.name for item in partitions}:
        problems.append(say("There is no partition {name} there.", name=place.partition))
    if not studio:
        said = _last_line(found["about"].text)
        problems.append(say("QLoRA Studio does not start there: {said}", said=said))
    elif protocol > PROTOCOL_VERSION:
        problems.append(
            say("{studio} there speaks a newer language: update this one, {here}.", studio=studio, here=__version__)
        )
    remarks = []
    if studio and studio != __version__:
        remarks.append(say("Version {there} there, {here} here.", there=studio, here=__version__))
    return PlaceReport(found["home"].text, studio, partitions, tuple(problems), tuple(remarks))


def _about(text: str) -> tuple[str, int]:
    """Return version and protocol of the program there."""
    try:
        facts = json.loads(_ABOUT.findall(text)[-1])
        return str(facts["studio"])[:64], int(facts["protocol"])
    except (IndexError, ValueError, KeyError, TypeError):
        return "", 0


def _partitions(text: str) -> list[Partition]:
    """Return the partitions by what `sinfo` printed, each once: of several kinds of nodes the first one with cards."""
    found: dict[str, Partition] = {}
    for line in text.splitlines()[: 10 * _MOST_PARTITIONS]:
        if line.count("|") == 4:
            name, up, limit, nodes, cards = (word.strip() for word in line.split("|"))
            cards = "" if cards == "(null)" else cards
            known = found.get(name)
            count = (int(nodes) if nodes.isdigit() else 0) + (known.nodes if known else 0)
            found[name] = Partition(name, limit, count, known.cards if known and known.cards else cards, up == "up")
    return list(found.values())[:_MOST_PARTITIONS]


def _last_line(text: str) -> str:
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")
