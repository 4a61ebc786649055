"""Where the steps of the work stand: over every combination of model, data, settings, drives and run."""

from collections.abc import Iterator
from itertools import product

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import Check, DataReport
from qlora_studio.core.errors import FailureKind, Problem
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Exported, Failed
from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.readiness.steps import Situation, StepState, elsewhere_problems, start_problems, steps

GOOD = DataReport(path="a", checks=(Check(name="x", title="Every row was read", passed=True, message=""),))
CUT = DataReport(
    path="a", checks=(Check(name="x", title="Answers are cut off", passed=False, message="", level="warning"),)
)
BAD = DataReport(path="a", refused="Nothing can be trained.")
CHOSEN = RunConfig().with_value("model.source", "starter").with_value("data.path", "a")
RUNS = (
    None,
    RunState(),
    RunState(phase=Phase.TRAINING),
    RunState(phase=Phase.PAUSED),
    RunState(phase=Phase.STOPPED),
    RunState(phase=Phase.FAILED, failure=Failed(kind=FailureKind.INTERNAL, message="It broke.")),
    RunState(phase=Phase.FINISHED, adapter_path="adapter"),
    RunState(
        phase=Phase.FINISHED, adapter_path="adapter", exports=(Exported(format="merged", path="m", size_bytes=1),)
    ),
)


def situations() -> Iterator[Situation]:
    """Every combination that the window can be in; what is known of no model or no dataset is nothing."""
    for source, path, here, report, reading, trouble, refused, full, run in product(
        ("", "starter"),
        ("", "a"),
        (None, False, True, "There is no such model."),
        (None, GOOD, CUT, BAD),
        (False, True),
        ("", "The file is gone."),
        ((), (Problem("lora.rank", "must be a number"),)),
        ((), ("The drive / has no room.",)),
        RUNS,
    ):
        yield Situation(
            config=RunConfig().with_value("model.source", source).with_value("data.path", path)
            if (source, path) != ("starter", "a")
            else CHOSEN,
            model_here=here if isinstance(here, bool) else None,
            model_problem=here if isinstance(here, str) else "",
            report=report,
            reading=reading,
            data_problem=trouble,
            refused=refused,
            full=full,
            run=run,
        )


def test_a_step_that_cannot_be_dealt_evenly_to_the_cards_keeps_a_run_from_being_started() -> None:
    def problems(cards: int) -> tuple[Problem, ...]:
        return start_problems(Situation(config=CHOSEN, model_here=True, report=GOOD, cards=cards))

    assert [problem.field for problem in problems(3)] == ["training.gradient_accumulation"]
    assert problems(4) == ()


def test_no_step_is_ticked_without_what_it_needs_in_any_combination_of_state() -> None:
    seen: set[tuple[str, StepState]] = set()
    for now in situations():
        found = steps(now)
        seen |= {(name, step.state) for name, step in found.items()}
        here = bool(now.config.model.source) and now.model_here is True and not now.model_problem
        clean = now.report is GOOD and not now.data_problem
        read = now.report in (GOOD, CUT) and not now.data_problem
        settings = not now.refused and not now.full
        done = {name for name, step in found.items() if step.state is StepState.DONE}
        assert ("model" in done) == here
        assert ("data" in done) == (here and bool(now.config.data.path) and clean)
        assert ("training" in done) == (here and bool(now.config.data.path) and read and settings)
        assert ("run" in done) == (now.run is not None and now.run.phase is Phase.FINISHED)
        assert ("export" in done) == (now.run is not None and bool(now.run.exports))
    assert {state for name, state in seen if name == "data"} == set(StepState)
    assert {state for name, state in seen if name == "run"} == set(StepState)


def test_training_is_blocked_exactly_where_start_is_refused_and_for_the_same_reasons() -> None:
    for now in situations():
        step, problems = steps(now)["training"], start_problems(now)
        assert (step.state is StepState.BLOCKED) == bool(problems)
        if problems:
            assert set(step.why) == {problem.message for problem in problems}


def test_a_step_that_is_not_done_says_why_in_sentences() -> None:
    for now in situations():
        for name, step in steps(now).items():
            if step.state is not StepState.DONE:
                assert step.why and all(step.why), (name, now)


@pytest.mark.parametrize(
    ("changes", "name", "state", "why"),
    [
        ({}, "data", StepState.DONE, ""),
        ({"report": CUT}, "data", StepState.ATTENTION, "Answers are cut off."),
        ({"report": CUT}, "training", StepState.DONE, "Ready to start."),
        ({"report": BAD}, "training", StepState.BLOCKED, "Nothing can be trained."),
        ({"report": None, "reading": True}, "data", StepState.TODO, "Every row is looked through."),
        ({"report": None}, "training", StepState.TODO, "Its rows were not looked through yet."),
        ({"model_here": None}, "model", StepState.TODO, "The model's files are looked at."),
        ({"model_here": False}, "model", StepState.ATTENTION, "Download the model on the Model page first."),
        ({"model_here": False}, "training", StepState.BLOCKED, "Download the model on the Model page first."),
        ({"config": RunConfig()}, "model", StepState.TODO, "Choose a base model."),
        ({"config": RunConfig().with_value("data.path", "a")}, "data", StepState.BLOCKED, "Choose a model first"),
        ({"run": RUNS[5]}, "run", StepState.ATTENTION, "It broke."),
        ({"run": RUNS[3]}, "run", StepState.ATTENTION, "Paused."),
        ({"run": RUNS[2]}, "run", StepState.TODO, "Training."),
        ({"run": RUNS[6]}, "export", StepState.TODO, "The adapter can be exported."),
        ({"run": None}, "export", StepState.BLOCKED, "There is no trained adapter yet."),
    ],
)
def test_each_step_says_what_it_waits_for(changes: dict[str, object], name: str, state: StepState, why: str) -> None:
    now = Situation(**{"config": CHOSEN, "model_here": True, "report": GOOD} | changes)  # type: ignore[arg-type]
    step = steps(now)[name]
    assert step.state is state
    assert why in step.text


def test_what_is_too_large_for_the_card_is_no_tick_and_can_be_tried_all_the_same() -> None:
    now = Situation(config=CHOSEN, model_here=True, report=GOOD, too_large=3 << 30)

    assert steps(now)["training"].state is StepState.ATTENTION
    assert "3.0 GiB more than the card has" in steps(now)["training"].text
    assert not start_problems(now)


def test_elsewhere_neither_this_computers_drives_nor_its_models_keep_a_run_from_starting() -> None:
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": "rows.jsonl"}})
    here = Situation(config, model_here=False, full=("The drive / has no room for this run.",))
    assert len(start_problems(here)) == 2 and not elsewhere_problems(here)
    wrong = Situation(config, data_problem="No such file.", refused=(Problem("lora.rank", "no number"),))
    assert set(elsewhere_problems(wrong)) == set(start_problems(wrong)) != set()
