"""What killed work left half made goes at the next start, with its bytes told; what somebody writes stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.runs.leftovers import remember_export_place, remove_leftovers
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.settings import cache_path, settings_path
from qlora_studio.storage.staging import remove_abandoned, restore_replaced, staging_path

_BYTES = 1000


def _fill(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "half").write_bytes(bytes(_BYTES))
    return path


def _name(place: Path, *, pid: int | None = None, host: str = "", started: str = "") -> Path:
    """The name that a process would give, with parts of it of another."""
    own = staging_path(place / "model").name.removeprefix(".staging-").removesuffix("-model").split(".")
    parts = [str(pid or own[0]), host or own[1], started or own[2]]
    return place / f".staging-{'.'.join(parts)}-model"


def _gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_process_writes_stays_while_it_lives(tmp_path: Path) -> None:
    path = _fill(staging_path(tmp_path / "model"))
    assert path == _name(tmp_path)
    assert remove_abandoned(tmp_path) == 0
    assert path.is_dir()


def test_what_a_process_wrote_that_is_gone_goes(tmp_path: Path) -> None:
    left = _fill(_name(tmp_path, pid=_gone()))
    (tmp_path / f".staging-{_gone()}-of-an-earlier-version").write_bytes(bytes(5))
    assert remove_abandoned(tmp_path) == _BYTES + 5
    assert not left.exists()
    assert not list(tmp_path.glob(".staging-*"))


def test_a_number_that_another_process_has_by_now_keeps_nothing(tmp_path: Path) -> None:
    _fill(_name(tmp_path, started="1"))
    assert remove_abandoned(tmp_path) == _BYTES


def test_what_another_computer_writes_goes_when_nothing_was_written_for_a_day(tmp_path: Path) -> None:
    path = _fill(_name(tmp_path, pid=_gone(), host="00000000"))
    assert remove_abandoned(tmp_path) == 0
    long_ago = time.time() - 25 * 3600
    os.utime(path, (long_ago, long_ago))
    assert remove_abandoned(tmp_path) == 0, "a file in it was written just now"
    os.utime(path / "half", (long_ago, long_ago))
    assert remove_abandoned(tmp_path) == _BYTES


def test_a_link_and_what_only_looks_alike_stay(tmp_path: Path) -> None:
    elsewhere = _fill(tmp_path / "elsewhere")
    place = tmp_path / "place"
    place.mkdir()
    _name(place, pid=_gone()).symlink_to(elsewhere)
    for name in (".staging-x-y", ".staging-12345678901-y", "staging-1-y", ".staging-1.2.3-y"):
        (place / name).touch()
    assert remove_abandoned(place) == 0
    assert len(list(place.iterdir())) == 5
    assert (elsewhere / "half").is_file()


def test_what_was_being_replaced_gets_its_name_back_or_goes(tmp_path: Path) -> None:
    _fill(tmp_path / ".replaced-adapter")
    _fill(tmp_path / ".replaced-other")
    _fill(tmp_path / "other")
    (tmp_path / ".replaced-link").symlink_to(tmp_path / "other")
    restore_replaced(tmp_path)
    assert (tmp_path / "adapter" / "half").is_file()
    assert [path.name for path in tmp_path.glob(".replaced-*")] == [".replaced-link"]


@pytest.fixture
def run(studio_home: Path) -> Iterator[RunFolder]:
    yield create_run_folder(studio_home / "runs", RunConfig(name="x"))


def test_all_places_are_looked_at_when_the_program_starts(run: RunFolder, studio_home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "usb"
    remember_export_place(elsewhere)
    rooms = [cache_path() / "models", cache_path() / "datasets", cache_path() / "datasets" / "0f"]
    places = [run.path, run.checkpoints_path, run.exports_path, run.path.parent, settings_path().parent, elsewhere]
    left = [_fill(_name(place, pid=_gone())) for place in dict.fromkeys([*places, *rooms])]
    own = _fill(staging_path(run.exports_path / "model"))
    assert remove_leftovers(run.path.parent) == _BYTES * len(left)
    assert not [path for path in left if path.exists()]
    assert own.is_dir()


def test_a_runs_folders_that_are_links_are_not_looked_into(run: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    left = _fill(_name(elsewhere, pid=_gone()))
    run.exports_path.symlink_to(elsewhere)
    (run.path.parent / "linked").symlink_to(elsewhere)
    assert remove_leftovers(run.path.parent) == 0
    assert left.is_dir()


def test_a_folder_of_runs_that_is_not_there_is_no_error(tmp_path: Path, studio_home: Path) -> None:
    assert remove_leftovers(tmp_path / "nowhere") == 0


def test_a_command_says_how_much_it_removed(run: RunFolder, studio_home: Path) -> None:
    left = _fill(_name(run.exports_path, pid=_gone()))
    (left / "large").write_bytes(bytes(3 << 20))
    command = [sys.executable, "-m", "qlora_studio", "queue", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "3 MiB that interrupted work had left half made were removed." in done.stderr.replace("3.0 MiB", "3 MiB")
    assert not left.exists()
