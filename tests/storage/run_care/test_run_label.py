"""What a user calls a run lies beside it, touches nothing else of it, and never keeps it from being read."""

import sys
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.run_care.disk_use import DiskUse, bytes_in
from qlora_studio.storage.run_care.removal import remove_for_ever, require_removable
from qlora_studio.storage.run_care.run_label import RunLabel, read_label, tags_of, write_label
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder


@pytest.fixture
def run(studio_home: Path) -> RunFolder:
    folder = RunFolder(studio_home / "runs" / "1-run")
    folder.path.mkdir(parents=True)
    folder.write_config(RunConfig(name="first"))
    return folder


def test_a_run_that_is_named_stays_trusted_and_its_folder_and_settings_stay_as_they_are(run: RunFolder) -> None:
    before = run.config_path.read_bytes()
    write_label(run, RunLabel(name="Baseline", tags=("a", "b"), note="two\nlines"))
    assert read_label(run) == RunLabel(name="Baseline", tags=("a", "b"), note="two\nlines")
    assert run.config_path.read_bytes() == before and trust.objection(run.path) is None


def test_a_run_at_work_can_be_named_and_not_removed(run: RunFolder) -> None:
    with run.lock().acquire(blocking=False):
        write_label(run, RunLabel(name="at work"))
        with pytest.raises(StudioError) as error:
            require_removable(run)
    assert error.value.kind is FailureKind.RUN_BUSY
    assert read_label(run).name == "at work"


def test_a_run_that_is_exported_just_now_is_not_removed(run: RunFolder) -> None:
    job = RunFolder(run.jobs_path / "1-export")
    job.path.mkdir(parents=True)
    with job.lock().acquire(blocking=False), pytest.raises(StudioError, match="1-export"):
        remove_for_ever(run)
    remove_for_ever(run)
    assert not run.path.exists()


@pytest.mark.parametrize("what", ["thesis.docx", "run.toml.bak", "my-folder"])
def test_a_folder_that_holds_something_of_the_users_is_not_removed(run: RunFolder, what: str) -> None:
    (run.path / what).write_text("mine")
    with pytest.raises(StudioError, match=what):
        remove_for_ever(run)
    assert (run.path / what).read_text() == "mine" and run.config_path.exists()


def test_a_label_that_says_nothing_is_no_file(run: RunFolder) -> None:
    write_label(run, RunLabel(name="x"))
    write_label(run, RunLabel())
    assert not (run.path / "label.json").exists() and read_label(run) == RunLabel()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"name": 5}', '{"tags": ["a\\nb"]}', '{"name": "' + "x" * 9999 + '"}']
)
def test_a_damaged_label_is_none_and_is_kept_where_another_is_written(run: RunFolder, text: str) -> None:
    (run.path / "label.json").write_text(text)
    assert read_label(run) == RunLabel()
    write_label(run, RunLabel(name="new"))
    assert read_label(run).name == "new"
    assert [path.read_text() for path in run.path.glob("label.json.damaged-*")] == [text]


@pytest.mark.skipif(sys.platform == "win32", reason="links are another matter there")
def test_nothing_is_read_or_written_through_a_link(run: RunFolder, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"name": "mine"}')
    (run.path / "label.json").symlink_to(mine)
    assert read_label(run) == RunLabel()
    with pytest.raises(StudioError, match="a link"):
        write_label(run, RunLabel(name="new"))
    assert mine.read_text() == '{"name": "mine"}'


def test_tags_are_words_between_commas_each_once() -> None:
    assert tags_of(" a,b  c ,, a,") == ("a", "b c")


def test_a_run_weighs_what_its_files_weigh_each_once_and_links_nothing(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    before = bytes_in(run.path)
    run.checkpoints_path.mkdir()
    (run.checkpoints_path / "a").write_bytes(bytes(1000))
    (run.checkpoints_path / "b").hardlink_to(run.checkpoints_path / "a")
    (run.path / "link").symlink_to(tmp_path / "large")
    assert before + 1000 <= bytes_in(run.path) < before + 1500


def test_a_run_that_grew_is_measured_again(run: RunFolder) -> None:
    use, path = DiskUse(), str(run.path)
    before = use.of([path])[path]
    run.adapter_path.mkdir()
    (run.adapter_path / "adapter_model.safetensors").write_bytes(bytes(777))
    assert use.of([path])[path] == before + 777
