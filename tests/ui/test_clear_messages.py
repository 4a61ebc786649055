"""What goes wrong is told on the page where it is of use: what, where and what to do; tracebacks stay in the fold."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from tests.engine.training_run import write_rows
from tests.ui.window_driver import Person

Open = Callable[[], Person]


@pytest.fixture
def open_window(qapp: QApplication) -> Iterator[Open]:
    """Opens the window, with what the settings say by then."""
    opened: list[Person] = []

    def open_it() -> Person:
        opened.append(Person(AppWindow()))
        opened[0].app_window.show()
        opened[0].sit_down()
        return opened[0]

    yield open_it
    opened[0].leave()


def test_a_model_that_is_not_there_is_told_where_it_is_chosen(open_window: Open, tmp_path: Path) -> None:
    choose(tmp_path / "before", write_rows(tmp_path / "rows.jsonl"))
    person = open_window()
    person.click("Folder")
    person.write("Model folder", str(tmp_path / "no such model"))
    person.wait(lambda: "no such model" in told(person)[0], "a word about the model")
    person.go_to("Training")
    person.click("Start training")
    assert "no such model" in " ".join(told(person))


def test_a_folder_that_holds_no_model_is_told_where_it_is_chosen(open_window: Open, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    person = open_window()
    person.go_to("Model")
    person.click("Folder")
    person.write("Model folder", str(tmp_path / "empty"))
    assert "config.json" in " ".join(told(person))


def test_a_dataset_of_garbage_is_told_on_the_data_page(open_window: Open, tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "garbage.jsonl"
    data.write_bytes(bytes(range(256)) * 40)
    choose(tiny_llama, data)
    person = open_window()
    person.go_to("Data")
    person.wait(lambda: refusal(person), "a word about the garbage")
    assert not person.sees("Continue to Training")
    no_traceback(person)


def test_a_dataset_without_one_good_row_is_told_on_the_data_page(
    open_window: Open, tiny_llama: Path, tmp_path: Path
) -> None:
    data = tmp_path / "bad.jsonl"
    rows = [{"messages": []}, {"messages": None}, {"messages": [{"role": "user", "content": None}]}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 10), encoding="utf-8")
    choose(tiny_llama, data)
    person = open_window()
    person.go_to("Data")
    person.wait(lambda: refusal(person), "a word about the rows")
    assert not person.sees("Continue to Training")
    no_traceback(person)


def test_a_dataset_that_is_not_there_is_told_on_the_data_page(
    open_window: Open, tiny_llama: Path, tmp_path: Path
) -> None:
    choose(tiny_llama, tmp_path / "nothing.jsonl")
    person = open_window()
    person.go_to("Data")
    assert "nothing.jsonl" in " ".join(told(person))


def test_a_runs_folder_that_cannot_be_written_is_told_when_a_run_is_started(
    open_window: Open, tiny_llama: Path, tmp_path: Path, studio_home: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    choose(tiny_llama, write_rows(tmp_path / "rows.jsonl"), runs_dir=str(tmp_path / "file" / "runs"))
    person = open_window()
    person.go_to("Training")
    person.click("Start training")
    said = told(person)
    assert str(tmp_path / "file") in said[0]
    assert "another folder" in said[1]
    assert person.window.current_page().title == "Training"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_is_told_on_the_run_page(
    open_window: Open, tiny_llama: Path, tmp_path: Path, studio_home: Path
) -> None:
    choose(tiny_llama, write_rows(tmp_path / "rows.jsonl", 240))
    person = open_window()
    person.go_to("Training")
    person.click("Start training")
    person.wait(lambda: [folder for folder in run_folders(studio_home / "runs") if folder.state().pid], "the worker")
    (folder,) = run_folders(studio_home / "runs")
    os.kill(folder.state().pid, signal.SIGKILL)
    said = told(person)
    assert person.window.current_page().title == "Run"
    assert "SIGKILL" in said[0] and "memory" in said[0]
    assert "resumed" in said[1]
    assert person.sees("Resume")


def test_what_kept_a_run_from_starting_is_told_no_more_once_it_is_mended(
    open_window: Open, tiny_llama: Path, tmp_path: Path
) -> None:
    save_settings(Settings(last_model=str(tiny_llama)))
    person = open_window()
    person.go_to("Training")
    person.click("Start training")
    notice = person.notice()
    assert notice is not None and notice.message.text() == "Choose a dataset."
    studio = person.app_window.studio
    assert studio is not None
    studio.draft.set_value("data.path", str(write_rows(tmp_path / "rows.jsonl")))
    person.wait(lambda: person.notice() is None, "that nothing is told any more")


def test_a_refused_value_is_told_no_more_once_another_config_comes(
    open_window: Open, tiny_llama: Path, tmp_path: Path
) -> None:
    choose(tiny_llama, write_rows(tmp_path / "rows.jsonl"))
    person = open_window()
    person.go_to("Training")
    person.write("Learning rate", "0")
    person.click("Start training")
    assert "Some settings are not right yet." in told(person)
    studio = person.app_window.studio
    assert studio is not None
    studio.draft.replace(studio.draft.config.with_value("lora.rank", 8))
    person.wait(lambda: person.notice() is None, "that nothing is told any more")


def choose(model: Path, data: Path, **more: str) -> None:
    """Let a model and a dataset be those of last time."""
    save_settings(Settings(last_model=str(model), last_data=str(data), **more))


def told(person: Person) -> tuple[str, str]:
    """Wait for the page's notice and return what happened and what to do; both must be said, in words."""
    person.wait(person.notice, "a message")
    notice = person.notice()
    assert notice is not None
    assert not notice.detail.isVisible(), "the details are not folded"
    message, advice = notice.message.text(), notice.advice.text()
    assert message.endswith((".", "?", "!")), message
    assert advice or len(message.split(". ")) > 1, f"{message!r} says not what to do"
    no_traceback(person)
    return message, advice


def refusal(person: Person) -> bool:
    """Whether the Data page says that this cannot be trained."""
    return person.notice() is not None or person.reads("No row") or person.reads("cannot")


def no_traceback(person: Person) -> None:
    """Nothing on the page reads like Python."""
    for text in person.texts():
        assert "Traceback" not in text and 'File "' not in text and "Error:" not in text, text
