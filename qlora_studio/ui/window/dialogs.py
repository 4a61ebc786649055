"""The questions that are asked before something ends, or goes on otherwise than it began."""

from enum import Enum, auto

from PySide6.QtWidgets import QWidget

from qlora_studio.core.words import say, say_count
from qlora_studio.ui.kit.question import Question


class Closing(Enum):
    """What the user wants of the runs when the window closes."""

    KEEP = auto()
    STOP_AND_SAVE = auto()
    CANCEL = auto()


class Discarding(Enum):
    """What the user wants of a run that broke off."""

    KEEP = auto()
    TRASH = auto()
    CANCEL = auto()


def ask_discard(parent: QWidget, name: str) -> Discarding:
    """Ask what becomes of a run that broke off."""
    more = say(
        "Kept, it stays in the list and can be resumed or exported later. In the trash, its checkpoints go with it."
    )
    answers = ((say("Keep it for later"), "primary"), (say("Move to the trash"), "danger"))
    question = say("What is to become of {name}?", name=name)
    chosen = Question(parent, say("Discard a run"), question, more, answers, usual=0).ask()
    return Discarding.CANCEL if chosen is None else (Discarding.KEEP, Discarding.TRASH)[chosen]


def ask_closing(parent: QWidget, names: tuple[str, ...]) -> Closing:
    """Ask what becomes of what runs."""
    if len(names) == 1:
        what = say("{name} is still at work.", name=names[0])
        more = say("It goes on without the window, and the next start shows it again.")
    else:
        what = say_count(len(names), "One run is still at work.", "{count} runs are still at work.")
        more = say("They go on without the window, and the next start shows them again.")
    answers = ((say("Keep training"), "primary"), (say("Stop and save"), "plain"))
    chosen = Question(parent, say("Close QLoRA Studio"), what, more, answers, usual=0).ask()
    return Closing.CANCEL if chosen is None else (Closing.KEEP, Closing.STOP_AND_SAVE)[chosen]


def ask_trust(parent: QWidget, name: str, lines: tuple[str, ...]) -> bool:
    """Ask whether a run that came from elsewhere, or was changed, may do here what it would."""
    more = "\n".join(
        (*(f"– {line}" for line in lines), say("It is trusted for as long as its run.toml stays as it is."))
    )
    return _ask(
        parent, say("Trust a run"), say("Trust {name}, and let it do this?", name=name), more, say("Trust this run")
    )


def ask_end_worker(parent: QWidget, name: str) -> bool:
    """Ask whether a worker that may not answer is to be ended from outside."""
    return _ask(
        parent,
        say("End the worker"),
        say("End the worker of {name} now?", name=name),
        say("For a worker that does not answer. It is told to end, and killed after five seconds. Checkpoints stay."),
        say("End it"),
        kind="danger",
    )


def ask_cancel_job(parent: QWidget, name: str, place: str) -> bool:
    """Ask whether the job of a run that is elsewhere is to be taken away from its scheduler."""
    return _ask(
        parent,
        say("Cancel the job"),
        say("Cancel the job of {name} on {place}?", name=name, place=place),
        say("A run that trains has a moment to save a checkpoint. What is there stays there, and it can be resumed."),
        say("Cancel the job"),
        say("Let it be"),
        kind="danger",
    )


def ask_go_on(parent: QWidget, name: str, question: str) -> bool:
    """Ask whether a run is to go on although its base model or dataset is another one now."""
    return _ask(
        parent, say("Something has changed"), say("Go on with {name} all the same?", name=name), question, say("Go on")
    )


def ask_other_base(parent: QWidget, name: str) -> bool:
    """Ask whether a run is to be exported on a base that is not the one of its training."""
    return _ask(
        parent,
        say("Another base model"),
        say("Export {name} on another base all the same?", name=name),
        say(
            "The adapter was trained on other weights: what comes out may answer badly. The export "
            "keeps a record of it."
        ),
        say("Export all the same"),
    )


def ask_stop_unsaved(parent: QWidget, name: str) -> bool:
    """Ask whether what a run learned since its last checkpoint may be thrown away."""
    return _ask(
        parent,
        say("Stop without saving"),
        say("Stop {name} without saving?", name=name),
        say(
            "What it learned since its last checkpoint is lost. Checkpoints stay, and the run can be resumed from them."
        ),
        say("Stop without saving"),
        kind="danger",
    )


def ask_trash(parent: QWidget, question: str, more: str) -> bool:
    """Ask whether runs go to the trash."""
    return _ask(parent, say("Move to the trash"), question, more, say("Move to the trash"), kind="danger")


def _ask(
    parent: QWidget, title: str, question: str, more: str, yes: str, no: str = "", *, kind: str = "primary"
) -> bool:
    """Ask for a yes, which Enter does not give; `kind` is danger where something is lost or ended by it."""
    return Question(parent, title, question, more, ((yes, kind),), leave=no).ask() == 0
