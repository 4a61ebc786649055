"""A place: another computer whose SLURM takes runs, how it is reached by the user's own ssh, and what to ask it for.

What is written here comes into shell commands and into a job script, so most of it may hold plain letters alone; the
setup lines and further #SBATCH lines are the user's own text, and stand in the script as they are.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from qlora_studio.core.config.run_config_text import rule_of
from qlora_studio.core.config.setting import SettingInfo, setting, settings_of
from qlora_studio.core.errors import InvalidRunConfig, Problem
from qlora_studio.core.run.machines import MOST
from qlora_studio.core.words import say

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_USER, _NUMBERS = r"(?:[A-Za-z0-9_][A-Za-z0-9_.+@\\-]*@)?", r"[0-9A-Fa-f]*(?::[0-9A-Fa-f.]*){2,8}(?:%[A-Za-z0-9_.-]+)?"
_NAMED = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HOST = re.compile(rf"{_USER}(?:{_NAMED}|{_NUMBERS})|ssh://{_USER}(?:{_NAMED}|\[{_NUMBERS}\])(?::[0-9]{{1,5}})?/?")
_FOLDER = re.compile(r"(~/|/)?[A-Za-z0-9_+@=.-]+(/[A-Za-z0-9_+@=.-]+)*/?")
FULL_PATH = r"^(/\.?[A-Za-z0-9_+@=-][A-Za-z0-9_+@=.-]*)+$"  # of a folder there, as it can be written in a job script
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,@+-]*")
_CARDS = re.compile(r"[0-9]{1,3}|[A-Za-z0-9_.-]+:[0-9]{1,3}")
_TIME = re.compile(r"[0-9]+(:[0-9]{1,2}){0,2}|[0-9]+-[0-9]{1,2}(:[0-9]{1,2}){0,2}")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")  # as long as Linux has them
_MEMORY = re.compile(r"[0-9]+[KMGTkmgt]?")
_MOST_LINES = 50


def _like(pattern: re.Pattern[str], words: str) -> AfterValidator:
    def check(text: str) -> str:
        text = text.strip()
        if text and not pattern.fullmatch(text):
            raise PydanticCustomError("place", "{words}", {"words": words})
        return text

    return AfterValidator(check)


def _lines(text: str) -> str:
    lines = [line.rstrip() for line in text.replace("\r", "").split("\n") if line.strip()]
    if len(lines) > _MOST_LINES or "\0" in text:
        raise PydanticCustomError("place", "{words}", {"words": say("must be some lines of text")})
    return "\n".join(lines)


def _sbatch_lines(text: str) -> str:
    lines = [line.removeprefix("#SBATCH").strip() for line in _lines(text).split("\n")]
    if not all(line.startswith("-") for line in lines if line):
        raise PydanticCustomError("place", "{words}", {"words": say("each line must be an option, such as --qos=long")})
    return "\n".join(lines)


def _needed_by_several(interface: str, place: ValidationInfo) -> str:
    if place.data.get("nodes", 1) > 1 and not interface:
        words = say("several nodes need the network interface that they speak by")
        raise PydanticCustomError("place", "{words}", {"words": words})
    return interface


class Place(BaseModel):
    """Where runs can be sent. Every field has its title, help and unit, for form and command line alike."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, _like(_NAME, say("must be letters, digits, dots, dashes and spaces"))] = setting(
        title=say("Name"), help=say("What you call the place."), min_length=1
    )
    host: Annotated[
        str, _like(_HOST, say("must be a host as in ~/.ssh/config, user@host, or ssh://user@host:port"))
    ] = setting(
        "",
        max_length=255,
        title=say("Host"),
        help=say("As you type it after ssh. Empty where this computer itself hands out jobs: its files are shared."),
    )
    folder: Annotated[str, _like(_FOLDER, say("must be a path of plain letters, digits, dots and dashes"))] = setting(
        "~/qlora-studio-runs",
        title=say("Folder there"),
        help=say("Where runs are kept there; every node that computes must see it."),
    )
    program: str = setting(
        "qlora-studio",
        title=say("Program there"),
        help=say(
            "How QLoRA Studio is started there: its name, its full path, or with a container's command before it."
        ),
        min_length=1,
        max_length=1000,
        pattern=r"^[^\x00\n\r]*$",
    )
    setup: Annotated[str, AfterValidator(_lines)] = setting(
        "",
        title=say("Setup lines"),
        help=say("Shell lines that come first there, such as module load cuda, or source ~/venv/bin/activate."),
        advanced=True,
    )
    partition: Annotated[str, _like(_WORD, say("must be a partition's name"))] = setting(
        "", title=say("Partition"), help=say("Empty: the scheduler's own choice.")
    )
    account: Annotated[str, _like(_WORD, say("must be an account's name"))] = setting(
        "", title=say("Account"), help=say("On whose account the job computes, where that is asked for."), advanced=True
    )
    time: Annotated[str, _like(_TIME, say("must be a time such as 12:00:00 or 2-00:00:00"))] = setting(
        "12:00:00",
        title=say("Time limit"),
        help=say("Hours, minutes and seconds. Shortly before its end the run pauses with a checkpoint."),
    )
    cards: Annotated[str, _like(_CARDS, say("must be a number, or a kind and a number such as a100:2"))] = setting(
        "1", title=say("Cards"), help=say("How many of each node, or with their kind: a100:2. 0 for none.")
    )
    nodes: int = setting(
        1,
        title=say("Nodes"),
        help=say("How many train a run together, each with so many cards."),
        ge=1,
        le=MOST,
        advanced=True,
    )
    interface: Annotated[
        str,
        _like(_INTERFACE, say("must be a network interface, such as ib0")),
        AfterValidator(_needed_by_several),
    ] = setting(
        "",
        validate_default=True,
        title=say("Interface of the nodes"),
        help=say("By which network several nodes speak, such as ib0 or eth1: they listen on its addresses alone."),
        advanced=True,
    )
    cpus: int = setting(
        0,
        title=say("Processors"),
        help=say("Of each node. 0: the scheduler's own choice."),
        ge=0,
        le=4096,
        advanced=True,
    )
    memory: Annotated[str, _like(_MEMORY, say("must be an amount such as 64G"))] = setting(
        "",
        title=say("Memory of a node"),
        help=say("Such as 64G. Empty: the scheduler's own choice."),
        advanced=True,
    )
    grace_seconds: int = setting(
        180,
        title=say("Seconds to pause in"),
        help=say("How long before its time limit the run is asked to pause."),
        unit=say("s"),
        ge=10,
        le=3600,
        advanced=True,
    )
    options: Annotated[str, AfterValidator(_sbatch_lines)] = setting(
        "",
        title=say("More options of sbatch"),
        help=say("One a line, such as --qos=long or --constraint=gpu80."),
        advanced=True,
    )

    @property
    def card_count(self) -> int:
        """How many cards a job asks for, of each node."""
        return int(self.cards.rpartition(":")[2] or 0)

    @property
    def is_here(self) -> bool:
        """Whether this computer itself hands out the jobs, so that no ssh is needed."""
        return not self.host


def place_from(values: dict[str, object]) -> Place:
    """Return a place of its values. Raises InvalidRunConfig with every problem, each with its field."""
    try:
        return Place.model_validate(values)
    except ValidationError as error:
        raise InvalidRunConfig(tuple(_problem(item) for item in error.errors())) from error


def place_settings() -> tuple[SettingInfo, ...]:
    """Return what a form shows of a place, in order."""
    return settings_of("", Place)


def _problem(item: object) -> Problem:
    assert isinstance(item, dict)
    words = say("must be given") if item["type"] in ("missing", "string_too_short") else rule_of(item)
    return Problem(".".join(map(str, item["loc"])), words)
