"""Full disks, limits, folders that cannot be written: nothing is corrupted or lost, and it is said in words."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Resume
from qlora_studio.core.run.events import Event, Failed, StepDone, Warned
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.engine.training_run import final_weights, follow, make_run, run_to_end

resource = pytest.importorskip("resource", reason="Windows has no limits on the size of files")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, 96 MiB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("Only root can mount a small disk to fill.")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    return filler


def _is_full_disk(event: Event) -> bool:
    return isinstance(event, Warned) and event.kind == "disk_full"


def test_a_disk_that_fills_up_pauses_the_run_and_space_lets_it_go_on(
    tiny_llama: Path, tmp_path: Path, small_disk: Path
) -> None:
    folder = make_run(small_disk, tiny_llama, "checkpoint.keep=2")
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone) and event.step == 2)
    filler = _fill(small_disk)
    told = follow(process, _is_full_disk)[-1]
    assert isinstance(told, Warned)
    assert told.message.startswith("The disk is full. Free ")
    assert folder.state().phase is Phase.WAITING
    for checkpoint in CheckpointFolder(folder.checkpoints_path).safe():
        assert checkpoint.step <= 2
    filler.unlink()
    assert follow(process)[-1].type == "finished"
    undisturbed = make_run(tmp_path / "undisturbed", tiny_llama)
    run_to_end(undisturbed)
    assert final_weights(folder) == final_weights(undisturbed)
    steps = [event.step for event in folder.events() if isinstance(event, StepDone)]
    assert steps == list(range(1, 10)), "an event was lost on the full disk"


@pytest.mark.slow
def test_a_limit_on_file_sizes_pauses_the_run_until_the_user_resumes(tiny_llama: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path, tiny_llama)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone) and event.step == 1)
    soft, hard = resource.prlimit(folder.state().pid, resource.RLIMIT_FSIZE)
    resource.prlimit(folder.state().pid, resource.RLIMIT_FSIZE, (20_000, hard))
    told = follow(process, _is_full_disk)[-1]
    assert isinstance(told, Warned)
    assert "quota or limit" in told.message
    resource.prlimit(folder.state().pid, resource.RLIMIT_FSIZE, (soft, hard))
    folder.send(Resume())
    assert follow(process)[-1].type == "finished"


def test_a_run_that_will_not_fit_on_the_disk_is_refused_before_it_trains(tiny_llama: Path, small_disk: Path) -> None:
    folder = make_run(small_disk, tiny_llama, "checkpoint.keep=900")
    state = run_to_end(folder)
    assert state.failure is not None
    assert state.failure.kind == "disk_full"
    assert "needs" in state.failure.message
    assert "free" in state.failure.advice.lower()
    assert state.step == 0


def test_a_disk_mounted_read_only_is_told_and_touches_nothing(tiny_llama: Path, small_disk: Path) -> None:
    folder = make_run(small_disk, tiny_llama)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StudioError) as caught:
        start_worker(folder)
    assert caught.value.kind == "not_writable"
    with pytest.raises(StudioError) as caught:
        create_run_folder(small_disk, RunConfig())
    assert caught.value.kind == "not_writable"
    assert "permission" in caught.value.advice or "another folder" in caught.value.advice
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.slow), True], ids=["removed", "moved"])
def test_a_folder_that_goes_away_in_mid_run_ends_the_run_in_words_and_nothing_is_written_in_its_place(
    tiny_llama: Path, tmp_path: Path, moved: bool
) -> None:
    folder = make_run(tmp_path / "runs", tiny_llama)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone) and event.step == 3)
    elsewhere = tmp_path / "elsewhere"
    folder.path.rename(elsewhere)
    if not moved:
        shutil.rmtree(elsewhere)
    ending = follow(process)[-1]
    assert isinstance(ending, Failed)
    assert ending.kind == "run_not_found"
    assert not folder.path.exists()
    if moved:
        failure = RunFolder(elsewhere).state().failure
        assert failure is not None
        assert "was removed or moved" in failure.message
        assert [item.step for item in CheckpointFolder(elsewhere / "checkpoints").safe()] == [2]


def test_a_run_works_in_a_folder_of_any_name(tiny_llama: Path, tmp_path: Path) -> None:
    place = tmp_path / "with spaces" / "[brackets] & more" / "日本語" / "Ünïcödé—dash" / "100 % 'quoted'"
    folder = make_run(place, tiny_llama, "training.max_steps=1", "evaluation.every_steps=0", rows=6)
    assert run_to_end(folder).phase is Phase.FINISHED, folder.state().failure


def test_a_run_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, RunConfig())
    newer = folder.config_path.read_text("utf-8").replace("version = 1", "version = 99") + "\n[sideways]\nnew = 1\n"
    folder.config_path.write_text(newer, encoding="utf-8")
    with pytest.raises(StudioError) as caught:
        RunFolder(folder.path).config()
    assert caught.value.kind == "newer_version"
    assert folder.config_path.read_text("utf-8") == newer
