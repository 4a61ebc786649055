"""A worker that waits takes the next run as a fresh one would, or not at all, and never outlives what it waits for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import psutil
import pytest

from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import Event, Failed, WorkerStarted
from qlora_studio.core.run.job import DownloadJob
from qlora_studio.jobs.idle_worker import IdleWorker, has_room
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import end_worker
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from tests.jobs.test_worker_process import until_phase

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing that is open can be handed over there")

_ROOT = Path(__file__).resolve().parents[2]
_GIB = 2**30
_NOBODY = 2**22 + 1  # Linux gives no process such a number
_FRESH = [sys.executable, "-m", "tests.jobs.scripted_idle_worker", "start,say:a fresh one,finish", "worker"]

Wait = Callable[[str], IdleWorker]


def program(script: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.jobs.scripted_idle_worker", script)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wait]:
    """Have a worker wait that will play a script; it is ended when the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    kept = []

    def keep(script: str) -> IdleWorker:
        kept.append(IdleWorker(program(script)))
        kept[-1].keep({})
        return kept[-1]

    yield keep
    for idle in kept:
        idle.end()


def waiting() -> psutil.Process:
    """Return the process that waits: a child of its supervisor, which is our child."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if child.cmdline()[-1:] == ["idle-worker"] and child.ppid() != os.getpid():
                    return child
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def followed(process: WorkerProcess) -> list[Event]:
    events = list(chain.from_iterable(RunFollower(process.folder, process).batches()))
    process.wait(30)
    return events


def gone(*processes: psutil.Process) -> bool:
    return not psutil.wait_procs(processes, timeout=10)[1]


def test_the_one_that_waits_does_the_run_as_a_fresh_worker_would(wait: Wait, folder: RunFolder) -> None:
    idle = wait("start,say:here,phase:training,wait_for_stop,finish,exit:3")
    worker = waiting()

    process = start_worker(folder, idle=idle)
    until_phase(folder, "training")

    assert worker.ppid() == process.pid == os.getsid(worker.pid)
    assert folder.is_busy()
    process.ask_stop()
    started = followed(process)[0]
    assert isinstance(started, WorkerStarted)
    assert started.pid == worker.pid
    assert process.wait(30) == 3
    assert not folder.is_busy()
    assert folder.log_path.read_text() == "here\n"


def test_one_that_a_library_ended_is_started_again(wait: Wait, folder: RunFolder) -> None:
    process = start_worker(folder, idle=wait("start,steps:3,save:3,say:Error 77,exit:1|start,finish"))

    assert [event.type for event in followed(process)][-3:] == ["recovering", "worker_started", "finished"]
    assert process.wait(30) == 0
    assert '"Error 77"' in folder.state().recoveries[0].message


def test_it_takes_one_run_and_the_next_gets_a_fresh_worker(wait: Wait, folder: RunFolder) -> None:
    idle = wait("start,say:the first,finish")
    followed(start_worker(folder, idle=idle))

    followed(start_worker(folder, _FRESH, idle=idle))

    assert folder.log_path.read_text() == "the first\na fresh one\n"


@pytest.mark.parametrize("whose", ["the worker's", "the supervisor's"])
def test_where_it_was_killed_a_fresh_one_is_started(wait: Wait, folder: RunFolder, whose: str) -> None:
    idle, worker = wait("start,say:a fresh one,finish"), waiting()
    killed = worker if whose == "the worker's" else worker.parent()
    assert killed is not None
    killed.kill()
    assert whose == "the worker's" or gone(worker)

    events = followed(start_worker(folder, _FRESH, idle=idle))

    assert events[-1].type == "finished"
    assert isinstance(events[0], WorkerStarted)
    assert events[0].pid != worker.pid


def test_a_worker_that_sees_another_card_is_not_taken_and_is_replaced(
    wait: Wait, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, first = wait("start,say:the one that waited,finish"), waiting()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    followed(start_worker(folder, _FRESH, idle=idle))
    assert folder.log_path.read_text() == "a fresh one\n"
    idle.keep({})
    second = waiting()
    idle.keep({})
    assert gone(first)
    assert waiting() == second
    idle.keep({"CUDA_VISIBLE_DEVICES": ""})

    assert gone(second)
    assert waiting().environ()["CUDA_VISIBLE_DEVICES"] == ""


def test_a_job_is_left_to_a_worker_of_its_own(wait: Wait, folder: RunFolder) -> None:
    idle, worker = wait("start,finish"), waiting()
    job = create_job_folder(folder.jobs_path, DownloadJob(source="nobody/nothing"))

    start_worker(job, [sys.executable, "-c", ""], idle=idle).wait(30)

    assert waiting() == worker


def test_ending_it_leaves_nothing(wait: Wait) -> None:
    idle, worker = wait("start,finish"), waiting()

    idle.end()

    assert gone(worker)


_WINDOW = """
import os, signal, sys, time
from pathlib import Path
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
script = "start,phase:training,wait_for_stop,finish"
idle = IdleWorker((sys.executable, "-m", "tests.jobs.scripted_idle_worker", script))
idle.keep({})
if sys.argv[1:]:
    start_worker(RunFolder(sys.argv[1]), idle=idle)
print("ready", flush=True)
time.sleep(60)
"""


def killed_window(*arguments: str) -> list[psutil.Process]:
    """Return what a window had started that was killed."""
    window = subprocess.Popen([sys.executable, "-c", _WINDOW, *arguments], stdout=subprocess.PIPE)
    with window:
        assert window.stdout is not None
        window.stdout.readline()
        worker = waiting()
        supervisor = worker.parent()
        window.kill()
    assert supervisor is not None
    return [worker, supervisor]


def test_it_ends_with_a_window_that_is_killed(wait: Wait) -> None:
    assert gone(*killed_window())


def test_a_run_that_it_took_outlives_a_window_that_is_killed(wait: Wait, folder: RunFolder) -> None:
    processes = killed_window(str(folder.path))
    until_phase(folder, "training")
    assert all(process.is_running() for process in processes)

    folder.send(Stop())

    assert gone(*processes)
    assert list(folder.events())[-1].type == "finished"


@pytest.mark.parametrize("is_told", [True, False])
def test_one_that_hangs_in_its_run_can_be_ended(wait: Wait, folder: RunFolder, is_told: bool) -> None:
    process = start_worker(folder, idle=wait("start,phase:training,wait"))
    until_phase(folder, "training")
    supervisor = psutil.Process(process.pid)
    (worker,) = supervisor.children()

    assert end_worker(folder, worker.pid if is_told else _NOBODY, grace_seconds=5)

    assert gone(worker)
    failed = followed(process)[-1]
    assert isinstance(failed, Failed)
    assert "SIGTERM" in failed.message
    assert not supervisor.is_running()


def test_one_that_works_elsewhere_is_not_ended(wait: Wait, folder: RunFolder, tmp_path: Path) -> None:
    process = start_worker(folder, idle=wait("start,phase:training,wait_for_stop,finish"))
    until_phase(folder, "training")

    end_worker(RunFolder(tmp_path), process.pid)

    process.ask_stop()
    assert process.wait(30) == 0


def test_killing_its_run_kills_both(wait: Wait, folder: RunFolder) -> None:
    process = start_worker(folder, idle=wait("start,phase:training,wait"))
    until_phase(folder, "training")
    workers = psutil.Process(process.pid).children()

    process.kill()

    assert process.wait(30) == -signal.SIGKILL
    assert gone(*workers)


@pytest.mark.parametrize(
    ("total", "available", "on_battery", "waits", "may"),
    [
        (16, 8, False, False, True),
        (16, 8, True, False, False),
        (8, 7, False, False, False),
        (16, 3, False, False, False),
        (16, 3, False, True, True),
        (64, 1, False, True, False),
    ],
)
def test_none_waits_on_a_battery_or_where_memory_is_short(
    total: int, available: int, on_battery: bool, waits: bool, may: bool
) -> None:
    assert has_room(total * _GIB, available * _GIB, on_battery=on_battery, waits=waits) is may
