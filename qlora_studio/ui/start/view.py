"""What the Start page says of the models, datasets and runs that were used last, as values. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from qlora_studio.core.run.titles import STARTER, data_title, model_title
from qlora_studio.core.words import say
from qlora_studio.ui.state.run_line import RunLine, when_text

USUAL, MOST = 5, 10  # of a kind: in a usual window, and in a high one
_STARTER_BYTES = 98_000_000
_OWN = say("comes with the program")
WAY = (  # of a run, as the rail has it
    (say("Model"), say("Choose what learns. Whether it fits the card is said before anything is fetched.")),
    (say("Data"), say("Choose what it learns from, and see each row as it is trained.")),
    (say("Training"), say("The settings come filled in. Change what you like.")),
    (say("Run"), say("Watch the curves. Pause and go on whenever you like.")),
    (say("Export"), say("Take a model out for llama.cpp, Ollama or vLLM, with a proof that it is right.")),
)


@dataclass(frozen=True)
class Recent:
    """Something that was used lately: what it is taken up by, its name, and a word on it."""

    key: str
    title: str
    note: str


@dataclass(frozen=True)
class StarterButton:
    """What the first door's button says; where it stops what comes, how far that is."""

    text: str
    tip: str = ""
    note: str = ""
    share: float = 0.0


def starter_button(*, busy: bool, is_here: bool, coming: int | None) -> StarterButton:
    """Return the button by whether a run is at work, and whether the starter model is here, or how much of it is."""
    if coming is not None:
        return StarterButton(
            say("Stop"), say("Give up getting the model"), _coming_note(coming), coming / _STARTER_BYTES
        )
    beside = say("The run that is at work goes on meanwhile") if busy else ""
    if not is_here:
        return StarterButton(say("Get it (98 MB)"), say("The model is fetched first, then training starts"))
    return StarterButton(say("Start beside it") if busy else say("Start training"), beside)


def _coming_note(coming: int) -> str:
    if not coming:  # nothing yet, or the system does not say
        return say("The model is being fetched; training starts when it is here.")
    done, total = min(coming, _STARTER_BYTES) / 1e6, _STARTER_BYTES / 1e6
    return say("{done:.0f} of {total:.0f} MB; training starts when all is here.", done=done, total=total)


def recent_models(sources: Iterable[str], home: PurePath) -> tuple[Recent, ...]:
    """Return models, the latest first."""
    return _first(
        Recent(source, model_title(source), _OWN if source == STARTER else _place(source, home)) for source in sources
    )


def recent_datasets(paths: Iterable[str], home: PurePath, starter: str) -> tuple[Recent, ...]:
    """Return datasets, the latest first; `starter` is where the one lies that comes with the program."""
    return _first(Recent(path, data_title(path), _OWN if path == starter else _place(path, home)) for path in paths)


def recent_runs(lines: Iterable[RunLine]) -> tuple[Recent, ...]:
    """Return the runs of a list that can be read, in its order."""
    readable = (line for line in lines if not line.problem)
    return _first(Recent(line.path, line.name, _run_note(line)) for line in readable)


def _first(found: Iterable[Recent]) -> tuple[Recent, ...]:
    return tuple(recent for recent, _ in zip(found, range(MOST), strict=False))


def _run_note(line: RunLine) -> str:
    return f"{line.words}, {when_text(line.when)}"


def _place(name: str, home: PurePath) -> str:
    """The folder that something lies in, or whose it is on the hub."""
    path = PurePath(name)
    if not path.is_absolute():
        owner = name.rpartition("/")[0]
        return say("{owner} on the hub", owner=owner) if owner else say("on the hub")
    folder = path.parent
    return str(PurePath("~", folder.relative_to(home))) if folder.is_relative_to(home) else str(folder)
