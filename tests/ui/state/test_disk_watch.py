"""What others change on the disk while the window is open: nothing that was said of it before stands on."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMainWindow

from qlora_studio.core.data.report import DataReport, RowCounts
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.reports import DatasetReported
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import Settings, load_settings, save_settings
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.readiness.data_question import report_question
from qlora_studio.ui.readiness.readiness import Readiness
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio

WaitUntil = Callable[[Callable[[], object]], None]
_REPORT = DataReport(path="", format="messages", evidence={}, columns=(), size_bytes=1, rows=RowCounts(), complete=True)


@pytest.fixture
def model(tmp_path: Path, tiny_llama: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text('{"text": "one"}\n', "utf-8")
    return path


@pytest.fixture
def studio(qapp: QApplication, studio_home: Path, model: Path, rows: Path) -> Iterator[Studio]:
    save_settings(Settings(idle_worker="none"))
    studio = Studio(load_settings())
    studio.begin()
    studio.draft.set_values({"model.source": str(model), "data.path": str(rows.parent)})
    yield studio
    studio.end()


@pytest.fixture
def told(studio: Studio, wait_until: WaitUntil) -> list[str]:
    """What the watch tells after it has seen how all stands."""
    told: list[str] = []
    for name in ("model", "adapter", "data", "settings"):
        getattr(studio.disk, f"{name}_changed").connect(lambda name=name: told.append(name))
    look(studio, wait_until)
    assert told == []
    return told


def look(studio: Studio, wait_until: WaitUntil) -> None:
    looked: list[bool] = []
    studio.disk.looked.connect(lambda: looked.append(True))
    studio.disk.look()
    wait_until(lambda: looked)


def written(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def replaced(path: Path) -> None:
    """By another of the same size and time."""
    before = path.stat()
    (other := path.with_name(".other")).write_bytes(path.read_bytes().replace(b"e", b"f"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def joined(path: Path) -> None:
    shutil.copyfile(path, path.with_name("more" + path.suffix))


@pytest.mark.parametrize("change", [written, replaced, Path.unlink, joined])
@pytest.mark.parametrize("what", ["model", "data"])
def test_a_file_that_is_written_replaced_removed_or_joined_is_seen_once(
    studio: Studio,
    told: list[str],
    model: Path,
    rows: Path,
    wait_until: WaitUntil,
    what: str,
    change: Callable[[Path], None],
) -> None:
    change(model / "config.json" if what == "model" else rows)
    look(studio, wait_until)
    look(studio, wait_until)
    assert told == [what]


def test_another_draft_is_no_change_of_files(
    studio: Studio, told: list[str], rows: Path, wait_until: WaitUntil
) -> None:
    studio.draft.set_values({"data.path": str(rows), "model.source": "starter"})
    studio.draft.set_value("data.path", "owner/on-the-hub")
    look(studio, wait_until)
    assert told == []


def test_a_model_that_is_removed_is_missing_and_there_again_once_it_is_put_back(
    studio: Studio, told: list[str], model: Path, wait_until: WaitUntil
) -> None:
    wait_until(lambda: studio.estimates.estimate)
    aside = model.rename(model.with_name("aside"))
    look(studio, wait_until)
    wait_until(lambda: studio.estimates.missing)
    assert studio.estimates.found is None and studio.estimates.estimate is None
    aside.rename(model)
    look(studio, wait_until)
    wait_until(lambda: studio.estimates.estimate)
    assert studio.estimates.missing is None


def test_nothing_is_said_of_rows_any_more_whose_file_was_written_since(
    studio: Studio, told: list[str], rows: Path, wait_until: WaitUntil
) -> None:
    owner = QMainWindow()
    check = DataCheck(studio, owner)
    readiness = Readiness(studio, check, owner)
    studio.disk.data_changed.connect(check.doubt)
    check.want(report_question)
    wait_until(lambda: check._asked)
    studio.data.end()  # what its worker would say is said here
    studio.data.store.take((DatasetReported(report=_REPORT),))
    wait_until(lambda: readiness.steps["data"].state == "done")
    written(rows)
    look(studio, wait_until)
    assert (check.report, check.rows, check.lengths, check.row) == (None, None, None, None)
    assert check.reading, "it will be looked through again"
    wait_until(lambda: readiness.steps["data"].state == "to do")
    studio.data.end()


def test_what_one_window_chooses_the_other_lives_by_and_does_not_undo(
    studio: Studio, told: list[str], wait_until: WaitUntil
) -> None:
    other = Studio(load_settings())
    other.change_settings(offline=True, assumed_gpu="RTX 4090")
    studio.change_settings(theme="dark")
    assert load_settings() == Settings(idle_worker="none", offline=True, assumed_gpu="RTX 4090", theme="dark")
    assert studio.settings == load_settings()
    other.change_settings(text_size="large")
    look(studio, wait_until)
    assert studio.settings.text_size == "large" and studio.settings.theme == "dark"


def test_the_queue_is_that_of_the_folder_of_runs_that_is_chosen(studio: Studio, tmp_path: Path) -> None:
    studio.queue.end()
    studio.change_settings(runs_dir=str(tmp_path / "others"))
    assert studio.queue_draft()
    assert (tmp_path / "others" / "queue.json").is_file()
    assert len(studio.queue.waiting()) == 1
    studio.change_settings(runs_dir="")
    assert studio.queue.waiting() == ()


def test_runs_that_others_start_and_remove_come_and_go(studio: Studio, wait_until: WaitUntil) -> None:
    runs = RunsList(studio)
    runs.refresh()
    wait_until(lambda: not runs.is_reading)
    assert runs.lines == ()
    folder = write_sample_run(studio.settings.runs_path / "by another", steps=3)
    runs.look()
    wait_until(lambda: len(runs.lines) == 1)
    shutil.rmtree(folder.path)

    def gone() -> bool:
        runs.look()  # which it does only now and then, however often it is told to
        return runs.lines == ()

    wait_until(gone)


def test_a_run_that_is_shown_and_whose_folder_is_gone_is_shown_no_more(
    studio: Studio, tmp_path: Path, wait_until: WaitUntil
) -> None:
    said: list[StudioError] = []
    studio.failed.connect(said.append)
    folder = write_sample_run(tmp_path / "runs" / "1", steps=3)
    with MessageLogWriter(folder.events_path) as log:
        log.append(Finished())
    (link := tmp_path / "link").symlink_to(folder.path)
    studio.runs.open(RunFolder(link))
    link.unlink()
    wait_until(lambda: studio.runs.shown is None)
    wait_until(lambda: said)
    assert [error.kind for error in said] == [FailureKind.RUN_NOT_FOUND]


def test_a_look_that_goes_wrong_is_not_the_last(studio: Studio, wait_until: WaitUntil) -> None:
    looked: list[bool] = []
    studio.disk.looked.connect(lambda: looked.append(True))
    for name in ("~no-such-user/x", "/" + 5000 * "x", "\0"):
        studio.draft.set_values({"model.source": name, "data.path": name, "lora.start_from": name})
        looked.clear()
        wait_until(lambda: len(looked) > 1)


def test_nothing_is_looked_at_once_it_has_ended(studio: Studio, told: list[str], tmp_path: Path) -> None:
    looked: list[bool] = []
    studio.end()
    studio.disk.looked.connect(lambda: looked.append(True))
    studio.draft.set_value("data.path", str(tmp_path / "other"))
    studio.disk.look()
    QTest.qWait(300)
    assert (looked, told) == ([], [])
