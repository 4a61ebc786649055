"""Where each step of the work stands, and why: the one place that the rail and Start go by. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import Problem
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.ranks import uneven
from qlora_studio.core.run.run_state import RunState, phase_text
from qlora_studio.core.words import say

CHOOSE_MODEL_FIRST = say("Choose a model first: its tokenizer and template decide what is trained.")
_DOWNLOAD = say("Download the model on the Model page first.")


class StepState(StrEnum):
    """Where a step of the work stands."""

    TODO = "to do"
    DONE = "done"
    ATTENTION = "needs attention"
    BLOCKED = "blocked"

    @property
    def words(self) -> str:
        """The state in words."""
        return _STATES[self]


_STATES = {
    StepState.TODO: say("to do"),
    StepState.DONE: say("done"),
    StepState.ATTENTION: say("needs attention"),
    StepState.BLOCKED: say("blocked"),
}


@dataclass(frozen=True)
class Step:
    """Where a step stands, and why, in sentences: what is to be done, what is wrong, or what it waits for."""

    state: StepState
    why: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentences below each other."""
        return "\n".join(self.why)


@dataclass(frozen=True)
class Situation:
    """All that the steps depend on, as it is now; what belongs to an older draft is left out of it.

    `model_here` is None while the model's files are looked for, and `model_problem` why there is no such model.
    `report` is what is known of the draft's rows, None while that is computed (`reading`) or was never asked;
    `data_problem` why they could not be read. `refused` are settings that are no values, `full` drives without room,
    in sentences. `too_large` are the bytes that the card lacks for the draft, 0 where it fits or nothing is known.
    `cards` are how many train together.
    `run` is the run that is shown.
    """

    config: RunConfig
    model_here: bool | None = None
    model_problem: str = ""
    report: DataReport | None = None
    reading: bool = False
    data_problem: str = ""
    refused: tuple[Problem, ...] = ()
    full: tuple[str, ...] = ()
    too_large: int = 0
    cards: int = 1
    run: RunState | None = None


def steps(now: Situation) -> dict[str, Step]:
    """Return where every step stands, by its name, in the order of the work."""
    model = _model(now)
    data = _data(now, model)
    return {"model": model, "data": data, "training": _training(now, data), "run": _run(now), "export": _export(now)}


def start_problems(now: Situation) -> tuple[Problem, ...]:
    """Return everything that keeps the draft from being started; what is still being computed keeps nothing."""
    missing = _model_missing(now) if now.config.model.source else ()
    shares = uneven(now.config, now.cards)
    found = [*elsewhere_problems(now), *(Problem("model.source", text) for text in missing)]
    found += [Problem("training.gradient_accumulation", shares)] if shares else []
    return (*found, *(Problem("", text) for text in now.full))


def elsewhere_problems(now: Situation) -> tuple[Problem, ...]:
    """Return what keeps the draft from being started on another computer: not this one's drives, nor its models."""
    found = [*problems_before_start(now.config), *now.refused]
    if now.config.data.path:
        refused = now.report.refused if now.report else ""
        found += [Problem("data.path", text) for text in (now.data_problem, refused) if text]
    return tuple(found)


def _model_missing(now: Situation) -> tuple[str, ...]:
    """Why there is no such model here; nothing while it is looked for."""
    if now.model_problem:
        return (now.model_problem,)
    return (_DOWNLOAD,) if now.model_here is False else ()


def _model(now: Situation) -> Step:
    if not now.config.model.source:
        return Step(StepState.TODO, (say("Choose a base model."),))
    if missing := _model_missing(now):
        return Step(StepState.ATTENTION, missing)
    return Step(StepState.DONE) if now.model_here else Step(StepState.TODO, (say("The model's files are looked at."),))


def _data(now: Situation, model: Step) -> Step:
    if not now.config.data.path:
        return Step(StepState.TODO, (say("Choose a dataset."),))
    if model.state is not StepState.DONE:
        return Step(StepState.BLOCKED, (CHOOSE_MODEL_FIRST,) if not now.config.model.source else model.why)
    if now.data_problem:
        return Step(StepState.ATTENTION, (now.data_problem,))
    if now.report is None:
        reading = say("Every row is looked through.") if now.reading else say("Its rows were not looked through yet.")
        return Step(StepState.TODO, (reading,))
    if now.report.refused:
        return Step(StepState.ATTENTION, (now.report.refused,))
    failed = tuple(f"{check.title}." for check in now.report.checks if check.level != "ok")
    return Step(StepState.ATTENTION, failed) if failed else Step(StepState.DONE)


def _training(now: Situation, data: Step) -> Step:
    """Ready where nothing keeps it from starting and the rows are known to be fit for it."""
    if problems := start_problems(now):
        return Step(StepState.BLOCKED, tuple(dict.fromkeys(problem.message for problem in problems)))
    if now.too_large:
        missing = bytes_text(now.too_large)
        words = say("It takes {missing} more than the card has: the panel at the right helps.", missing=missing)
        return Step(StepState.ATTENTION, (words,))
    if data.state in (StepState.TODO, StepState.BLOCKED):
        return Step(StepState.TODO, data.why)
    return Step(StepState.DONE, (say("Ready to start."),))


def _run(now: Situation) -> Step:
    if now.run is None:
        return Step(StepState.BLOCKED, (say("Nothing was started yet."),))
    if now.run.phase is Phase.FAILED:
        return Step(StepState.ATTENTION, (now.run.failure.message if now.run.failure else Phase.FAILED.words,))
    if now.run.phase in (Phase.PAUSED, Phase.WAITING):
        return Step(StepState.ATTENTION, (f"{now.run.phase.words}.",))
    if now.run.phase is Phase.FINISHED or now.run.adapter_path:
        return Step(StepState.DONE)
    return Step(StepState.TODO, (f"{phase_text(now.run)}.",))


def _export(now: Situation) -> Step:
    if now.run is None or not now.run.adapter_path:
        return Step(StepState.BLOCKED, (say("There is no trained adapter yet."),))
    return Step(StepState.DONE) if now.run.exports else Step(StepState.TODO, (say("The adapter can be exported."),))
