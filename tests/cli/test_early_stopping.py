"""Early stopping is told on the terminal: when it happens, in the verdict at the end, and to programs."""

from collections.abc import Callable
from pathlib import Path

from qlora_studio.cli.progress import event_text
from qlora_studio.cli.train_command import summary_of, verdict
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import Finished, StoppedEarly, WorkerStarted
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

EARLY = StoppedEarly(step=120, evaluations=3)
WORDS = "Stopped early: the held-out loss did not get better for 3 evaluations (step 120)."


def ended(runs: Path, *events: StoppedEarly) -> RunFolder:
    folder = create_run_folder(runs, RunConfig(name="early"))
    with MessageLogWriter(folder.events_path) as log:
        for event in (WorkerStarted(job="train", studio="0", pid=1), *events, Finished()):
            log.append(event)
    return folder


def test_it_is_told_when_it_happens() -> None:
    assert event_text(EARLY) == WORDS


def test_watch_ends_with_it(studio: Callable[..., Outcome], tmp_path: Path) -> None:
    assert studio("watch", str(ended(tmp_path, EARLY).path)).out.splitlines()[-1] == WORDS
    assert WORDS not in studio("watch", str(ended(tmp_path).path)).out


def test_programs_are_told_the_step_and_the_evaluations(studio: Callable[..., Outcome], tmp_path: Path) -> None:
    report = studio("watch", str(ended(tmp_path, EARLY).path), "--json").report
    assert report["stopped_early"] == {"step": 120, "evaluations": 3}
    assert studio("watch", str(ended(tmp_path).path), "--json").report["stopped_early"] is None


def test_training_ends_with_it(tmp_path: Path) -> None:
    folder = ended(tmp_path, EARLY)
    state = folder.state()
    summary = summary_of(folder, state, {}, 1.0)
    assert summary["stopped_early"] == {"step": 120, "evaluations": 3}
    assert WORDS in verdict(state, summary, folder)
