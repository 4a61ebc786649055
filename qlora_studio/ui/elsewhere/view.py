"""What the window says of a run elsewhere and of the place where it is, as values. Pure; sizes are bytes."""

import re
from dataclasses import dataclass

from qlora_studio.core.elsewhere.told import detail_words, elsewhere_words
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say, say_count
from qlora_studio.jobs.elsewhere.place_check import Partition, PlaceReport

_MOST_NAMED = 6  # partitions, files
_IN_QUEUE = say("Begins by itself when its turn has come")
_AWAY = say("This does not end the run: the job goes on there, and is followed again once the place is reached.")


@dataclass(frozen=True)
class ElsewhereView:
    """What the Run page says of a run that is elsewhere, and what it offers.

    `words` stand in the header. `waits` is said in the place of the phase: what is under way, or waited for. `warning`
    and `advice` are said where the place is not reached, or something else is wrong. `open` is whether there is a job
    to cancel, `fetchable` whether an adapter is there that is not here, `busy` whether an act is under way.
    """

    words: str
    waits: str = ""
    warning: str = ""
    advice: str = ""
    open: bool = False
    fetchable: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Check:
    """Something that was asked of a place."""

    title: str
    message: str
    level: str = "ok"


def run_elsewhere(state: RunState, *, place: str, is_open: bool, is_here: bool, doing: str = "") -> ElsewhereView:
    """Return what is said of a run elsewhere. `is_here` is whether its adapter is, `doing` what is under way."""
    told = state.elsewhere or ElsewhereTold(place=place)
    is_open = is_open and not (state.phase.is_over and state.last_event)  # its ending is told before its job is over
    words = elsewhere_words(told) if is_open else say("on {place}", place=place)
    problem, away = detail_words(told), is_open and bool(told.unreached_since)
    in_queue = is_open and told.standing in ("submitted", "waiting")
    trained = state.phase is Phase.FINISHED or (state.phase is Phase.STOPPED and bool(state.adapter_path))
    return ElsewhereView(
        words=f"{words[:1].upper()}{words[1:]}",
        waits=doing or (_IN_QUEUE if in_queue else ""),
        warning=problem,
        advice=_AWAY if problem and away else "",
        open=is_open,
        fetchable=trained and not is_here,
        busy=bool(doing),
    )


def name_of_host(host: str) -> str:
    """Return what a place is called that was given no name: as its host, without user and port."""
    return re.sub(r"[^A-Za-z0-9 ._-]+", "-", host.rpartition("@")[2]).strip("-. ")[:64]


def place_checks(report: PlaceReport, *, cards: int) -> tuple[Check, ...]:
    """Return what was found at a place: what keeps runs from going there first."""
    checks = [Check(say("Not ready"), problem, "error") for problem in report.problems]
    if report.studio:
        remark = " ".join(report.remarks)
        text = remark or say("Version {version}, as here.", version=report.studio)
        checks.append(Check(say("The program"), text, "warning" if remark else "ok"))
    checks += [Check(say("The folder"), report.home)] if report.home else []
    if report.partitions:
        checks.append(Check(say("Partitions"), _partitions_text(report.partitions)))
        with_cards = any(partition.cards for partition in report.partitions)
        if cards and not with_cards:
            checks.append(Check(say("Cards"), say("No partition has any. Ask for 0 to train without."), "warning"))
    return tuple(checks)


def leaving_facts(files: list[tuple[str, int]]) -> list[tuple[str, str]]:
    """Return the files that leave this computer with their sizes, the largest first, and how many more there are."""
    ordered = sorted(files, key=lambda item: -item[1])
    facts = [(name, bytes_text(size)) for name, size in ordered[:_MOST_NAMED]]
    rest = ordered[_MOST_NAMED:]
    if rest:
        words = say_count(len(rest), "and one file more", "and {count:,} files more")
        facts.append((words, bytes_text(sum(size for _, size in rest))))
    return facts


def fit_words(verdict: FitVerdict | None, assumed: str) -> tuple[str, str]:
    """Return whether the run fits the card that is assumed, and a tone; where none is, that nobody judged the card."""
    if not assumed:
        where = say(
            "Whether it fits the cards there is not known: estimates are of this computer's card. Name the card there "
            "in the settings, under “Estimate for”."
        )
        return where, ""
    match verdict:
        case FitVerdict.FITS:
            return say("It fits on {card}, for which the estimate is judged.", card=assumed), "ok"
        case FitVerdict.TIGHT:
            return say("A tight fit on {card}, for which the estimate is judged.", card=assumed), "warn"
        case FitVerdict.NO:
            return say("It does not fit on {card}, for which the estimate is judged.", card=assumed), "bad"
    return say("Whether it fits on {card} is not known yet.", card=assumed), ""


def sending_text(done: int, total: int) -> str:
    """Return how far the files are."""
    if not total or done >= total:
        return say("The job is handed to the scheduler …")
    return say("Sending: {done} of {total}", done=bytes_text(done), total=bytes_text(total))


def _partitions_text(partitions: tuple[Partition, ...]) -> str:
    named = [_partition_text(partition) for partition in partitions[:_MOST_NAMED]]
    more = len(partitions) - len(named)
    return "; ".join([*named, *([say("{count} more", count=more)] if more else [])])


def _partition_text(partition: Partition) -> str:
    nodes = say_count(partition.nodes, "{count} node", "{count} nodes")
    parts = [nodes, partition.cards.removeprefix("gpu:"), partition.time_limit]
    facts = ", ".join(filter(None, parts))
    if not partition.is_up:
        return say("{name} ({facts}, down)", name=partition.name, facts=facts)
    return say("{name} ({facts})", name=partition.name, facts=facts)
