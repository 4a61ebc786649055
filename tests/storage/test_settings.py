"""Settings, queue and records of the program's own that cannot be read: as at first, told, and never written over."""

import os
import sys
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.runs.probe_records import probe_records
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.settings import Settings, cache_path, load_settings, save_settings

DAMAGED = [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"theme": 7}', b'{"runs_dir": "\\u0000"}', b" " * (1 << 21)]
pytestmark = pytest.mark.usefixtures("studio_home")


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:20]))
def test_settings_that_cannot_be_read_are_told_and_kept_when_others_are_saved(studio_home: Path, data: bytes) -> None:
    path = studio_home / "settings.json"
    path.write_bytes(data)
    settings = load_settings()
    assert settings.model_copy(update={"problem": ""}) == Settings()
    assert "settings.json cannot be read" in settings.problem
    assert path.read_bytes() == data
    save_settings(settings)
    assert load_settings() == Settings()
    assert [aside.read_bytes() for aside in studio_home.glob("settings.json.damaged-*")] == [data]


def test_settings_that_can_be_read_and_none_at_all_have_no_problem() -> None:
    assert load_settings() == Settings()
    save_settings(Settings(theme="dark", runs_dir="~nobody-of-this-name/runs"))
    assert load_settings().runs_path.name == "runs" and not load_settings().problem


def test_a_queue_that_cannot_be_read_is_set_aside_and_goes_on_empty(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, RunConfig())
    (tmp_path / "queue.json").write_bytes(b'[{"path": 1}]')
    queue = RunQueue(tmp_path)
    assert queue.runs() == [] and "No run waits any more" in queue.problem
    queue.add(folder)
    assert [run.folder.path for run in queue.runs()] == [folder.path] and not queue.problem
    assert [path.read_bytes() for path in tmp_path.glob("queue.json.damaged-*")] == [b'[{"path": 1}]']


def test_a_queued_run_of_a_name_that_no_drive_has_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "queue.json").write_text(f'[{{"path": "{"x" * 3000}"}}]')
    assert RunQueue(tmp_path).runs() == []


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are another matter there")
def test_a_pipe_in_the_place_of_a_record_is_never_waited_for(studio_home: Path) -> None:
    cache_path().mkdir(parents=True, exist_ok=True)
    for path in (studio_home / "settings.json", studio_home / "queue.json", cache_path() / "probes.json"):
        os.mkfifo(path)
    assert load_settings().problem and probe_records() == () and RunQueue(studio_home).runs() == []


@pytest.mark.parametrize("data", [b'{"x": "y"}', b"[]", b'{"x": NaN}', b"\0"])
def test_known_hashes_that_are_none_are_taken_again(tmp_path: Path, data: bytes) -> None:
    cache_path().mkdir(parents=True, exist_ok=True)
    (cache_path() / "hashes.json").write_bytes(data)
    (tmp_path / "weights").write_bytes(b"weights")
    assert fingerprint_file(tmp_path / "weights") == fingerprint_file(tmp_path / "weights", anew=True)
