"""The whole job in the window, from a model on disk to a verified merge and an answer, by mouse and keyboard alone."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.run.events import WorkerStarted
from qlora_studio.jobs.card_choice import card_environment
from qlora_studio.jobs.gpu_monitor import gpu_cards
from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.data.token_view import TokenView
from qlora_studio.ui.kit.tables import Table
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.run.plot_card import PlotCard
from tests.engine.training_run import write_rows
from tests.ui.window_driver import Person, picture


@pytest.fixture
def person(qapp: QApplication) -> Iterator[Person]:
    """A person in front of the window, as `qlora-studio` opens it."""
    app_window = AppWindow()
    person = Person(app_window)
    app_window.window.resize(1440, 900)
    app_window.show()
    person.sit_down()
    yield person
    person.leave()


def test_the_whole_job_is_done_by_mouse_and_keyboard(
    person: Person, tiny_llama: Path, tmp_path: Path, studio_home: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", 200)
    choose_folder_model(person, tiny_llama)
    choose_data(person, data)
    look_at_tokens(person)
    waits = keep_a_worker(person)
    set_up_training(person, "window-job", steps="400", batch="1", max_length="64")
    watch_and_stop(person)
    merge_and_export(person)
    assert word(person, "verified") and person.reads("Verification: all hold"), person.texts()
    ask(person, "What is 2 + 2?")
    find_in_runs(person, "window-job")
    (folder,) = run_folders(studio_home / "runs")
    assert folder.adapter_path.is_dir()
    started = next(folder.events())
    assert isinstance(started, WorkerStarted)
    assert waits in (None, started.pid)
    print(person.pulse.text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_real_small_model_is_trained_and_merged_by_mouse_and_keyboard(
    person: Person, smollm_folder: Path, studio_home: Path
) -> None:
    person.patience = 600
    choose_starter(person)
    look_at_tokens(person)
    # A rate at which three steps move the model by more than 16-bit rounding does.
    set_up_training(person, "starter-in-the-window", steps="3", batch="1", max_length="96", rate="5e-3")
    person.wait(lambda: person.sees("Continue to Export"), "the end of the run")
    assert person.notice() is None
    picture(person, "starter-run")
    person.click("Continue to Export")
    merge_and_export(person)
    # After three steps, 16 bits may not hold all that was learned: then the page must say just that.
    (proof,) = studio_home.glob("runs/*/exports/*/verification.json")
    assert word(person, "verified" if json.loads(proof.read_text("utf-8"))["verified"] else "verification failed")
    ask(person, "What should I pack for a walk?")
    find_in_runs(person, "starter-in-the-window")
    (folder,) = run_folders(studio_home / "runs")
    assert folder.state().step == 3
    print(person.pulse.text())


def choose_starter(person: Person) -> None:
    """Take the model and the rows that come with the program."""
    person.pulse.stage = "Model"
    person.go_to("Model")
    person.click("Use the starter model")
    person.wait(lambda: person.sees("Continue to Data"), "the starter model's facts")
    person.click("Continue to Data")
    person.pulse.stage = "Data"
    person.click("Use the starter dataset")
    person.wait(lambda: person.sees("Continue to Training"), "the rows")


def choose_folder_model(person: Person, folder: Path) -> None:
    """Name a model by the path of its folder."""
    person.pulse.stage = "Model"
    person.go_to("Model")
    person.click("Folder")
    person.write("Model folder", str(folder))
    person.wait(lambda: person.sees("Continue to Data"), "the model's facts")
    assert person.reads("6.37 M parameters"), person.texts()
    picture(person, "model")
    person.click("Continue to Data")


def choose_data(person: Person, data: Path) -> None:
    """Name a dataset by its path and wait until every row was looked through."""
    person.pulse.stage = "Data"
    assert person.window.current_page().title == "Data"
    person.write("Path or hub name", str(data))
    person.wait(lambda: person.sees("Stop"), "the reading of the dataset")
    picture(person, "reading")
    person.wait(lambda: person.sees("Continue to Training"), "the rows")


def look_at_tokens(person: Person) -> None:
    """Look at the longest row, token by token: some are trained, and not all."""
    person.pulse.stage = "X-ray"
    view = person.find("Tokens of the row", TokenView)
    first = len(view.tokens())
    person.click("longest")
    person.wait(lambda: len(view.tokens()) > first, "the longest row")
    assert {piece.trained for piece in view.tokens()} == {True, False}
    picture(person, "xray")
    person.click("Continue to Training")


def set_up_training(person: Person, name: str, *, steps: str, batch: str, max_length: str, rate: str = "2e-4") -> None:
    """Fill in the form and start."""
    person.pulse.stage = "Training"
    person.write("Name of the run", name)
    person.click("Advanced settings of How it is learned")
    person.write("Steps", steps)
    person.write("Max length", max_length)
    person.write("Learning rate", rate)
    person.write("Per-device batch size", batch)
    person.write("Gradient accumulation", "1")
    person.write("Evaluate every", "0")
    person.tick("Merge at the end", False)
    picture(person, "training")
    person.click("Start training")
    person.wait(lambda: person.window.current_page().title == "Run", "the Run page", 10)


def keep_a_worker(person: Person) -> int | None:
    """Have a worker wait for the run, as `qlora-studio` does when it is left to itself; return its process id."""
    if sys.platform == "win32" or person.app_window.studio is None:
        return None
    person.app_window.studio.idle.keep(card_environment("auto", gpu_cards(), os.environ))

    def waiting() -> list[int]:
        children = psutil.Process().children(recursive=True)
        return [child.pid for child in children if child.ppid() != os.getpid() and "idle-worker" in child.cmdline()]

    person.wait(waiting, "a worker that waits")
    return waiting()[0]


def watch_and_stop(person: Person) -> None:
    """Watch the curve grow while the worker trains, then stop and save."""
    person.pulse.stage = "Run"
    plots = person.window.current_page().findChild(PlotCard)
    assert plots is not None
    person.wait(lambda: plots.is_plot_ready(), "the plot")
    picture(person, "run-begin")
    seen: list[int] = []

    def grows() -> bool:
        points = len(plots.smoothed_loss())
        if not seen or points > seen[-1]:
            seen.append(points)
        return len(seen) > 3 and points >= 5

    person.wait(grows, "points on the curve, one after another")
    picture(person, "run")
    person.click("Stop and save")
    person.wait(lambda: person.sees("Continue to Export"), "the end of the run")
    assert person.notice() is None
    picture(person, "run-end")
    person.click("Continue to Export")


def merge_and_export(person: Person) -> None:
    """Merge with one click, and wait for what the verification says."""
    person.pulse.stage = "Export"
    person.wait(lambda: person.sees("Merge & export"), "the run on the Export page")
    person.click("Merge & export")
    person.wait(lambda: person.sees("Stop"), "the export's progress")
    picture(person, "exporting")
    verdicts = ("Verification: all hold", "do not hold")
    person.wait(lambda: any(map(person.reads, verdicts)) or person.notice(), "the verification's verdict")
    assert person.notice() is None, person.texts()
    picture(person, "export")


def ask(person: Person, prompt: str) -> None:
    """Ask base and tuned model one thing."""
    person.pulse.stage = "Chat"
    person.go_to("Chat")
    person.wait(lambda: person.sees("Send"), "the Chat page")
    person.write("At most", "12")
    person.write("Prompt", prompt)
    person.wait(lambda: person.sees("Answer of the base model", Label), "a place for the answer")
    tuned, base = (person.find(f"Answer of the {name} model", Label) for name in ("tuned", "base"))
    person.wait(lambda: sum("tokens/s" in text for text in person.texts()) == 2, "both answers")
    assert len(tuned.text()) > 1 and len(base.text()) > 1
    assert person.reads(prompt)
    picture(person, "chat")


def find_in_runs(person: Person, name: str) -> None:
    """See the run in the list, and open it again from there."""
    person.pulse.stage = "Runs"
    person.go_to("Runs")
    table = person.find("Runs", Table)
    person.wait(lambda: table.model().rowCount() == 1, "the list of runs")
    assert table.model().index(0, 0).data() == name
    picture(person, "runs")
    person.click("Open")
    assert person.window.current_page().title == "Run"
    person.wait(lambda: person.reads(name), "the run")


def word(person: Person, text: str) -> bool:
    """Whether a label says exactly this."""
    return text in [label.text() for label in person.window.current_page().findChildren(QLabel) if label.isVisible()]
