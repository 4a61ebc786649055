"""Who may read what the program writes, under any umask: its user alone, unless that user opened it to others."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio import child_process
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.commands import Pause
from qlora_studio.storage.durable import staged_folder, write_atomically
from qlora_studio.storage.permissions import as_the_user, private_folder, umask, work_as
from qlora_studio.storage.runs.export_folder import staged_export
from qlora_studio.storage.runs.own_files import opened_log
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.settings import Settings, save_settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=oct, autouse=True)
def mask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The umask of the user."""
    monkeypatch.setattr("qlora_studio.storage.permissions._of_user", None)
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Whether each thing in a folder is one, and its permissions."""
    return {(path.is_dir(), mode(path)) for path in folder.rglob("*")}


def test_a_new_run_and_all_that_is_made_for_it_are_its_users_alone(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path / "data" / "runs", RunConfig())
    run.send(Pause())
    opened_log(run.log_path).close()
    with run.lock():
        pass

    assert modes(tmp_path / "data") == {(True, 0o700), (False, 0o600)}


def test_settings_and_the_folders_above_them_are_their_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "first start" / "home"))
    save_settings(Settings())

    assert mode(tmp_path / "first start") == 0o700
    assert modes(tmp_path / "first start") == {(True, 0o700), (False, 0o600)}


def test_a_run_that_was_opened_to_others_stays_so(tmp_path: Path, mask: int) -> None:
    run = create_run_folder(tmp_path, RunConfig())
    run.path.chmod(0o750)
    run.config_path.chmod(0o640)
    run.write_config(RunConfig())
    run.send(Pause())

    assert mode(run.path) == 0o750
    assert mode(run.config_path) == 0o640
    assert mode(run.commands_path) == 0o640 & ~mask


def test_a_worker_gives_what_it_writes_to_no_more_people_than_its_folder(tmp_path: Path, mask: int) -> None:
    run = create_run_folder(tmp_path, RunConfig())
    for opened in (0o700, 0o750):
        run.path.chmod(opened)
        work_as(run.path)
        (run.path / f"by a library {opened}").touch()
        with staged_folder(run.adapter_path, replace=True) as staged:
            descriptor = os.open(staged.path / "by safetensors", os.O_CREAT | os.O_WRONLY, 0o600)
            os.close(descriptor)

        wanted = opened & ~mask
        assert mode(run.path / f"by a library {opened}") == wanted & 0o666
        assert {mode(path) for path in run.adapter_path.iterdir()} == {wanted & 0o666}
        assert mode(run.adapter_path) == wanted


def test_an_export_by_such_a_worker_may_be_read_as_any_file_of_its_user(tmp_path: Path, mask: int) -> None:
    run = create_run_folder(tmp_path, RunConfig())
    work_as(run.path)
    with staged_export(run.exports_path / "merged") as staged:
        (staged.path / "training").mkdir()
        (staged.path / "training" / "run.toml").touch()
        (staged.path / "model.safetensors").touch()
    write_atomically(run.exports_path / "merged" / "verification.json", b"{}")

    assert umask() == mask
    assert modes(run.exports_path) == {(True, 0o777 & ~mask), (False, 0o666 & ~mask)}


def test_what_others_share_with_the_hub_s_cache_stays_theirs(tmp_path: Path, mask: int) -> None:
    run = create_run_folder(tmp_path, RunConfig())
    work_as(run.path)
    with as_the_user():
        (tmp_path / "downloaded").touch()

    assert mode(tmp_path / "downloaded") == 0o666 & ~mask
    assert os.umask(0o077) == 0o077


def test_children_of_a_worker_begin_with_their_users_umask(tmp_path: Path, mask: int) -> None:
    work_as(private_folder(tmp_path / "run"))
    command = child_process.python("-c", "import os; print(os.umask(0))")

    with child_process.start(command, stdout=subprocess.PIPE) as process:
        assert int(process.communicate()[0]) == mask
