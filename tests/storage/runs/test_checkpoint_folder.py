"""A checkpoint is there whole, or not at all: after any kill, any lost write, any flipped bit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, DamagedCheckpoint, verify

_PROGRAM = Path(__file__).with_name("killed_save.py")
with_sigkill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


def _write_old(folder: Path) -> None:
    (folder / "adapter.safetensors").write_bytes(b"old weights" * 9000)


def _old_checkpoint(path: Path) -> CheckpointFolder:
    folder = CheckpointFolder(path)
    folder.save(1, _write_old)
    return folder


def _save_killed_at(path: Path, at: int, log: Path, step: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(_PROGRAM), str(path), str(at), str(log), str(step)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _forget_what_was_not_synced(path: Path, log: Path) -> None:
    """Do to the files what a power cut may: bytes that were never synced are gone."""
    synced = set(log.read_text().splitlines()) if log.exists() else set()
    for file in [item for item in path.rglob("*") if item.is_file() and "checkpoint-1" not in item.parts]:
        names = {str(file)} | {name for name in synced if Path(name).name == file.name and Path(name).suffix}
        if not names & synced:
            os.truncate(file, file.stat().st_size // 2)


def _kill_points(path: Path, every: int) -> range:
    _old_checkpoint(path)
    ended = _save_killed_at(path, 0, path.parent / "count.log")
    assert ended.returncode == 0, ended.stderr
    return range(1, int(ended.stdout) + 1, every)


def _check_every_kill(tmp_path: Path, every: int) -> int:
    points = _kill_points(tmp_path / "count", every)
    for at in points:
        path, log = tmp_path / f"at-{at}", tmp_path / f"at-{at}.log"
        _old_checkpoint(path)
        assert _save_killed_at(path, at, log).returncode == -9
        _forget_what_was_not_synced(path, log)
        aside: list[Path] = []
        newest = CheckpointFolder(path).newest_safe(lambda damaged, _why: aside.append(damaged))  # noqa: B023
        assert newest is not None
        assert newest.step in (1, 2)
        assert not aside, "a checkpoint got its name before all of it was synced"
        old = verify(path / "checkpoint-1")
        assert (old.path / "adapter.safetensors").read_bytes() == b"old weights" * 9000
        assert not list(path.glob(".staging-*"))
        shutil.rmtree(path)
    return len(points)


@with_sigkill
def test_a_kill_before_any_of_every_seventh_system_call_of_a_save_leaves_a_safe_checkpoint(tmp_path: Path) -> None:
    assert _check_every_kill(tmp_path, 7) > 5


@with_sigkill
@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_kill_before_any_system_call_of_a_save_leaves_a_safe_checkpoint(tmp_path: Path) -> None:
    assert _check_every_kill(tmp_path, 1) > 40


def _check_every_kill_of_a_replacement(tmp_path: Path, every: int) -> set[bytes]:
    _old_checkpoint(tmp_path / "count")
    calls = int(_save_killed_at(tmp_path / "count", 0, tmp_path / "count.log", step=1).stdout)
    found = set()
    for at in range(1, calls + 1, every):
        path = tmp_path / f"at-{at}"
        _old_checkpoint(path)
        assert _save_killed_at(path, at, tmp_path / f"at-{at}.log", step=1).returncode == -9
        newest = CheckpointFolder(path).newest_safe(lambda damaged, why: pytest.fail(f"{damaged.name}: {why}"))
        assert newest is not None, f"a kill before call {at} lost the checkpoint that was being replaced"
        found.add((newest.path / "adapter.safetensors").read_bytes()[:11])
        assert [item.name for item in path.iterdir()] == ["checkpoint-1"]
        shutil.rmtree(path)
    return found


@with_sigkill
def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    assert _check_every_kill_of_a_replacement(tmp_path, 9) == {b"old weights", b"new weights"}


@with_sigkill
@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_kill_at_any_call_while_a_checkpoint_is_replaced_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    assert _check_every_kill_of_a_replacement(tmp_path, 1) == {b"old weights", b"new weights"}


def test_a_save_that_was_not_disturbed_verifies_and_knows_its_loss(tmp_path: Path) -> None:
    folder = _old_checkpoint(tmp_path)
    saved = folder.save(2, _write_old, evaluation_loss=0.25)
    assert saved.step == 2
    assert saved.evaluation_loss == 0.25
    assert saved.size_bytes == len(b"old weights" * 9000)
    assert [item.step for item in folder.safe()] == [2, 1]


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = _old_checkpoint(tmp_path / "checkpoints")

    def write(staging: Path) -> None:
        (staging / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        folder.save(2, write)
    assert sorted(item.name for item in folder.path.iterdir()) == ["checkpoint-1"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_changed_byte_or_length_is_noticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("flip")
    saved = CheckpointFolder(path).save(1, _write_old)
    files = sorted(item for item in saved.path.rglob("*") if item.is_file())
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[position:]
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpoint):
        verify(saved.path)


def test_a_damaged_checkpoint_is_set_aside_by_name_and_the_one_before_is_offered(tmp_path: Path) -> None:
    folder = _old_checkpoint(tmp_path)
    newer = folder.save(2, _write_old)
    with (newer.path / "adapter.safetensors").open("rb+") as file:
        file.write(b"X")
    told: list[tuple[str, str]] = []
    newest = folder.newest_safe(lambda path, why: told.append((path.name, why)))
    assert newest is not None
    assert newest.step == 1
    assert told[0][0].startswith("checkpoint-2.damaged-")
    assert told[0][1] == "checkpoint-2/adapter.safetensors has changed on disk"


def test_no_flipped_bit_of_the_newest_manifest_keeps_a_run_from_going_on(tmp_path: Path) -> None:
    folder = _old_checkpoint(tmp_path)
    manifest = folder.save(2, _write_old).path / "manifest.json"
    whole = manifest.read_bytes()
    for bit in range(0, len(whole) * 8, 7):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(flipped)
        aside: list[Path] = []
        found = folder.newest_safe(lambda path, _why: aside.append(path))  # noqa: B023
        assert found is not None and (found.step, len(aside)) in ((1, 1), (2, 0))
        for path in aside:
            path.rename(manifest.parent)


def test_a_checkpoint_under_the_name_of_another_step_is_set_aside(tmp_path: Path) -> None:
    folder = _old_checkpoint(tmp_path)
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / "checkpoint-900")
    told: list[str] = []
    newest = folder.newest_safe(lambda _path, why: told.append(why))
    assert newest is not None and newest.step == 1
    assert told == ["checkpoint-900 says that it is of step 1"]


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 4.0)):
        folder.save(step, _write_old, evaluation_loss=loss)
        folder.rotate(2)
    assert [item.step for item in folder.safe()] == [5, 4, 2]
    best = folder.best()
    assert best is not None
    assert best.step == 2


def test_one_that_is_not_whole_does_not_count_among_those_that_rotation_keeps(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, _write_old)
    os.truncate(tmp_path / "checkpoint-2" / "adapter.safetensors", 10)
    folder.save(4, _write_old)
    folder.rotate(3)
    assert [item.step for item in folder.safe()] == [4, 3, 1]
