"""A run's worker is started again after a fault, once, by its supervisor alone; and never where somebody ended it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import psutil
import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import Event, Failed
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import end_worker
from qlora_studio.jobs.worker_process import SUPERVISOR, WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.jobs.test_worker_process import until_phase

Play = Callable[[str], WorkerProcess]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals, and no shared locks")
_LARGEST = 20 << 20


@pytest.fixture
def supervised(play: Play) -> Play:
    """Start a scripted worker as a run's is started; what stands after a bar is played by the one after it."""
    return lambda script: play(script, *SUPERVISOR)


def follow(process: WorkerProcess | RunFolder) -> list[str]:
    folder, known = (process, None) if isinstance(process, RunFolder) else (process.folder, process)
    return [event.type for event in chain.from_iterable(RunFollower(folder, known).batches())]


def last_event(folder: RunFolder) -> Event:
    return list(folder.events())[-1]


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_worker_that_a_library_ended_is_started_again(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,steps:3,save:3,say:Error 77,exit:1|start,finish")

    types = follow(process)

    assert types[-3:] == ["recovering", "worker_started", "finished"]
    assert process.wait(30) == 0
    (recovery,) = folder.state().recoveries
    assert recovery.message == (
        'The worker ended with exit code 1 and said "Error 77": the run goes on from its last safe checkpoint.'
    )
    assert (recovery.kind, recovery.step, recovery.batch_size) == (
        "worker_died",
        3,
        folder.config().training.batch_size,
    )


@posix_only
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_worker_that_broke_is_started_again(supervised: Play, name: str) -> None:
    types = follow(supervised(f"start,steps:1,signal:{name}|start,finish"))

    assert types[-3:] == ["recovering", "worker_started", "finished"]


@posix_only
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_a_worker_that_somebody_ended_is_not_started_again(supervised: Play, folder: RunFolder, name: str) -> None:
    process = supervised(f"start,steps:1,signal:{name}|start,finish")

    failed = list(chain.from_iterable(RunFollower(folder, process).batches()))[-1]

    assert process.wait(30) == -getattr(signal, name)
    assert isinstance(failed, Failed)
    assert name in failed.message
    assert folder.state().recoveries == ()


@pytest.mark.parametrize(
    "script", ["start,fail,exit:1", "start,finish,exit:1", "exit:1", "start,exit:7", "start,exit:26"]
)
def test_what_is_no_fault_of_a_run_at_work_is_not_tried_again(supervised: Play, folder: RunFolder, script: str) -> None:
    process = supervised(f"{script}|start,finish")

    follow(process)

    assert process.wait(30) == int(script.rpartition(":")[2])
    assert folder.state().recoveries == ()


def test_a_fault_that_comes_again_at_once_ends_the_run(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,steps:3,save:2,exit:1")

    types = follow(process)

    assert [kind for kind in types if kind not in ("step_done", "checkpoint_saved")] == [
        *("worker_started", "recovering", "worker_started", "failed")
    ]
    assert process.wait(30) == 1


def test_a_fault_that_comes_again_after_a_new_checkpoint_is_another_one(supervised: Play, folder: RunFolder) -> None:
    types = follow(supervised("start,steps:3,exit:1|start,steps:5,save:4,exit:1|start,finish"))

    assert types.count("recovering") == 2
    assert types[-1] == "finished"


def test_a_worker_that_asks_for_it_is_started_again(supervised: Play) -> None:
    types = follow(supervised("start,recover,exit:75|start,finish"))

    assert types == ["worker_started", "recovering", "worker_started", "finished"]


@pytest.mark.parametrize(
    ("words", "kind"), [("Error out of memory", "out_of_memory"), ("the GPU is lost", "card_lost")]
)
def test_the_last_words_of_a_worker_say_what_to_do_about_its_end(
    supervised: Play, folder: RunFolder, words: str, kind: str
) -> None:
    follow(supervised(f"start,say:{words},exit:1|start,exit:1"))

    (first, second) = (*folder.state().recoveries, None)[:2]
    assert first is not None
    assert first.kind == kind
    halved = folder.config().training.batch_size // (2 if kind == "out_of_memory" else 1)
    assert first.batch_size == halved
    assert second is None or second.kind == "worker_died", "the words of an earlier worker were taken for this one's"


def test_what_the_lost_worker_was_asked_is_asked_of_the_next(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,wait_for_stop,exit:1|start,wait_for_stop,finish")

    process.ask_stop(save=True)

    assert process.wait(60) == 0
    assert folder.state().phase is Phase.FINISHED


@posix_only
def test_nobody_finds_the_folder_free_while_a_worker_takes_the_place_of_another(
    supervised: Play, folder: RunFolder
) -> None:
    process = supervised(
        "start,phase:training,wait_for_stop,exit:1|start,wait_for_stop,phase:again,wait_for_stop,finish"
    )
    until_phase(folder, "training")
    process.ask_stop()
    found = []
    while not any(event.type == "phase_changed" and event.phase == "again" for event in folder.events()):
        found.append(folder.is_busy())
        time.sleep(0.001)

    assert len(found) > 10
    assert all(found)
    assert process.wait(30) == 0


def test_two_windows_see_a_recovery_alike(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait_for_stop,exit:1|start,steps:2,wait_for_stop,finish")
    until_phase(folder, "training")
    seen: dict[int, list[str]] = {}
    windows = [threading.Thread(target=lambda n=number: seen.update({n: follow(folder)})) for number in range(2)]
    for window in windows:
        window.start()
    process.ask_stop()
    own = follow(process)
    for window in windows:
        window.join(30)

    assert seen[0] == seen[1] == own
    assert own[-1] == "finished"


@posix_only
def test_a_fault_is_got_over_after_whoever_started_the_run_is_gone(folder: RunFolder) -> None:
    program = (
        "import os, signal, sys\n"
        "from qlora_studio.jobs.worker_process import SUPERVISOR, start_worker\n"
        "from qlora_studio.storage.runs.run_folder import RunFolder\n"
        "script = 'start,wait_for_stop,exit:1|start,wait_for_stop,finish'\n"
        "start_worker(RunFolder(sys.argv[1]), [*SUPERVISOR, sys.executable, sys.argv[2], script])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = str(Path(__file__).with_name("scripted_worker.py"))
    starter = subprocess.run([sys.executable, "-c", program, str(folder.path), worker], check=False)
    assert starter.returncode == -signal.SIGKILL
    folder.send(Stop())

    types = follow(folder)

    assert [kind for kind in types if kind != "phase_changed"] == [
        *("worker_started", "recovering", "worker_started", "finished")
    ]


@posix_only
def test_a_worker_whose_supervisor_was_killed_goes_on_and_is_told_of(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait_for_stop,phase:saving,finish")
    until_phase(folder, "training")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(0.1) == -signal.SIGKILL

    assert folder.is_busy()
    with pytest.raises(StudioError, match="at work"):
        start_worker(folder)
    folder.send(Stop())

    assert follow(process)[-2:] == ["phase_changed", "finished"]
    assert follow(folder)[-1] == "finished"


@posix_only
def test_a_worker_that_dies_after_its_supervisor_is_told_as_gone(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait_for_stop,exit:1|start,finish")
    until_phase(folder, "training")
    os.kill(process.pid, signal.SIGKILL)
    folder.send(Stop())

    failed = list(chain.from_iterable(RunFollower(folder, process).batches()))[-1]

    assert isinstance(failed, Failed)
    assert "SIGKILL" not in failed.message or not folder.is_busy()
    assert folder.state().recoveries == ()


@posix_only
def test_whoever_ends_the_supervisor_ends_the_worker(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait|start,finish")
    until_phase(folder, "training")
    worker = psutil.Process(folder.state().pid)

    os.kill(process.pid, signal.SIGTERM)

    assert process.wait(30) == -signal.SIGTERM
    assert not _lives(worker)
    assert last_event(folder).type == "phase_changed"


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=posix_only)])
def test_ending_a_worker_at_once_ends_its_supervisor_too(supervised: Play, folder: RunFolder, frozen: bool) -> None:
    process = supervised("start,phase:training,wait|start,finish")
    until_phase(folder, "training")
    worker = folder.state().pid
    if frozen:
        os.kill(worker, signal.SIGSTOP)

    assert end_worker(folder, worker, grace_seconds=1)

    assert process.wait(30) not in (0, None)
    assert not folder.is_busy()
    assert last_event(folder).type == "phase_changed"


def test_ending_a_worker_ends_the_one_after_the_one_that_is_known(supervised: Play, folder: RunFolder) -> None:
    """Between two workers the pid that was told last is nobody's, and may be another program's."""
    process = supervised("start,phase:training,wait|start,finish")
    until_phase(folder, "training")

    assert end_worker(folder, os.getpid(), grace_seconds=1)

    assert process.wait(30) not in (0, None)
    assert not folder.is_busy()


def test_killing_what_was_started_leaves_nothing_that_works_in_the_folder(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait|start,finish")
    until_phase(folder, "training")
    worker = psutil.Process(folder.state().pid)

    process.kill()
    process.wait(30)

    assert not folder.is_busy()
    assert not _lives(worker)


def test_a_supervisor_takes_next_to_no_memory(supervised: Play, folder: RunFolder) -> None:
    process = supervised("start,phase:training,wait")
    until_phase(folder, "training")
    watched = psutil.Process(process.pid)
    if any("coverage" in place.path for place in watched.memory_maps()):
        pytest.skip("coverage measures it, and takes memory itself")

    assert watched.memory_info().rss < _LARGEST
    assert not any("torch" in place.path or "pydantic" in place.path for place in watched.memory_maps())


@posix_only
def test_a_folder_that_is_removed_meanwhile_is_not_made_again(
    supervised: Play, folder: RunFolder, tmp_path: Path
) -> None:
    process = supervised("start,phase:training,wait|start,finish")
    until_phase(folder, "training")
    worker = folder.state().pid
    folder.path.rename(tmp_path / "elsewhere")

    os.kill(worker, signal.SIGSEGV)

    assert process.wait(60) == -signal.SIGSEGV
    assert not folder.path.exists()
