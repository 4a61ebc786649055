import ast
from pathlib import Path

import pytest

import qlora_studio.engine
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity, Phase, activity_words
from qlora_studio.core.run.run_state import RunState, phase_text, reduce, work_at_risk
from qlora_studio.ui.state.progress import eta_text, risk_text

STEP = ev.StepDone(step=8, total_steps=10, epoch=1.0, loss=1.0, learning_rate=1e-4, eta_seconds=60, time=100.0)
STARTED = ev.WorkerStarted(job="train", studio="0", pid=1, time=0.0)
SAVED = ev.AdapterSaved(path="/r/adapter", step=10, time=110.0)


def state_after(*events: ev.Event) -> RunState:
    state = RunState()
    for event in events:
        state = reduce(state, event)
    return state


def told_by_the_engine() -> list[tuple[str, ast.expr]]:
    """Return what stands in each call of `phase` in the engine, with its place."""
    found = []
    for path in Path(qlora_studio.engine.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "phase":
                found.append((f"{path.name}:{node.lineno}", node.args[0]))
    return found


def test_everything_that_the_engine_does_has_words_and_a_phase() -> None:
    told = told_by_the_engine()
    assert len(told) > 20
    for place, argument in told:
        if isinstance(argument, ast.Call):  # Activity(f"tracing_{phase}"): held by the types and by the tracer's tests
            assert ast.unparse(argument.func) == "Activity", place
            continue
        assert isinstance(argument, ast.Attribute) and ast.unparse(argument.value) == "Activity", place
        activity = Activity[argument.attr]
        assert activity.words and activity.phase.words, place


def test_no_activity_is_listed_that_nobody_tells() -> None:
    told = {argument.attr for _, argument in told_by_the_engine() if isinstance(argument, ast.Attribute)}
    traced = {activity.name for activity in Activity if activity.startswith("tracing_")}
    assert {activity.name for activity in Activity} == told | traced


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_has_words(phase: Phase) -> None:
    assert phase.words


@pytest.mark.parametrize(
    "activity",
    [Activity.EXPORTING, Activity.QUANTIZING, Activity.MERGING, Activity.VERIFYING, Activity.CHECKING_BASE],
)
def test_nothing_is_at_risk_once_the_final_adapter_is_saved(activity: Activity) -> None:
    state = state_after(STARTED, STEP, SAVED, ev.PhaseChanged(phase=activity))
    assert (work_at_risk(state, 5000.0), risk_text(state, 5000.0), eta_text(state)) == (0.0, "", "")


def test_quantizing_is_shown_as_what_it_is() -> None:
    state = state_after(STARTED, STEP, SAVED, ev.PhaseChanged(phase="quantizing"))
    assert (state.phase, phase_text(state)) == (Phase.EXPORTING, "Quantizing")


def test_work_is_at_risk_again_when_a_stopped_run_trains_on() -> None:
    state = state_after(STARTED, STEP, SAVED, STARTED, STEP)
    assert work_at_risk(state, 100.0) == 100.0
    assert risk_text(state, 100.0) == "No checkpoint yet, 1 min 40 s of work at risk"


def test_an_activity_of_a_later_version_is_shown_in_its_own_words() -> None:
    state = state_after(STARTED, ev.PhaseChanged(phase="counting_stars"))
    assert (state.phase, phase_text(state)) == (Phase.PREPARING, "Counting stars")
    assert activity_words("counting_stars") == "Counting stars"


def test_a_run_that_recovers_says_so() -> None:
    recovering = ev.Recovering(
        kind="out_of_memory", message="Out of memory.", step=1, batch_size=1, gradient_accumulation=2
    )
    assert phase_text(state_after(STARTED, STEP, recovering)) == "Recovering"
