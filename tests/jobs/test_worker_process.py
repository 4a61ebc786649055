"""A worker is a process of its own: started, asked, ended, killed, and its ending told in words."""

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

from qlora_studio.core.errors import ExitCode, FailureKind, StudioError, ending_in_words
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import Failed, PhaseChanged, WorkerStarted
from qlora_studio.core.run.job import DownloadJob, UploadJob
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import WORKER, WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder

Play = Callable[[str], WorkerProcess]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def until_phase(folder: RunFolder, name: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for event in folder.events():
            if isinstance(event, PhaseChanged) and event.phase.startswith(name):
                return event.phase
        time.sleep(0.01)
    raise AssertionError(f"{name} never came; worker.log says: {folder.log_path.read_text()}")


def test_a_worker_asked_to_stop_ends_well(play: Play, folder: RunFolder) -> None:
    process = play("start,phase:training,wait_for_stop,finish")
    until_phase(folder, "training")

    process.ask_stop(save=True)

    assert process.wait(30) == 0
    until_phase(folder, "saving")


def test_a_command_sent_right_after_the_launch_is_not_lost(play: Play, folder: RunFolder) -> None:
    process = play("start,wait_for_stop,finish")
    process.ask_stop(save=False)

    assert process.wait(30) == 0
    until_phase(folder, "stopping")


def test_a_worker_does_not_obey_what_an_earlier_session_was_asked(play: Play, folder: RunFolder) -> None:
    folder.send(Stop(save=False))
    process = play("start,phase:training,wait_for_stop,finish")
    process.ask_stop(save=True)

    assert process.wait(30) == 0
    until_phase(folder, "saving")


def test_a_second_worker_in_the_same_folder_is_refused(play: Play, folder: RunFolder) -> None:
    play("start,phase:training,wait")
    until_phase(folder, "training")

    with pytest.raises(StudioError) as caught:
        play("start,finish")

    assert caught.value.kind == "run_busy"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as caught:
        start_worker(RunFolder(tmp_path / "gone"))

    assert caught.value.kind == "run_not_found"


@posix_only
def test_killing_a_worker_ends_its_children_too(play: Play, folder: RunFolder) -> None:
    process = play("start,child,phase:training,wait")
    child = psutil.Process(int(until_phase(folder, "child").split()[1]))

    process.kill()

    assert process.wait(30) == -signal.SIGKILL
    assert psutil.wait_procs([child], timeout=10)[1] == []


def test_the_lock_is_free_after_the_worker_was_killed(play: Play, folder: RunFolder) -> None:
    process = play("start,phase:training,wait")
    until_phase(folder, "training")
    assert folder.is_busy()

    process.kill()
    process.wait(30)

    assert wait_until_free(folder, 10)


@posix_only
def test_a_worker_lives_in_a_session_of_its_own(play: Play, folder: RunFolder) -> None:
    process = play("start,phase:training,wait")
    until_phase(folder, "training")

    assert os.getsid(process.pid) == process.pid != os.getsid(0)


@posix_only
def test_a_worker_outlives_whoever_started_it(folder: RunFolder, lasting_processes: set[int]) -> None:
    program = (
        "import os, signal, sys\n"
        "from qlora_studio.jobs.worker_process import start_worker\n"
        "from qlora_studio.storage.runs.run_folder import RunFolder\n"
        "script = [sys.executable, sys.argv[1], 'start,phase:training,wait_for_stop,finish']\n"
        "start_worker(RunFolder(sys.argv[2]), script)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = os.path.join(os.path.dirname(__file__), "scripted_worker.py")  # noqa: PTH118, PTH120
    parent = subprocess.run([sys.executable, "-c", program, script, str(folder.path)], check=False)
    assert parent.returncode == -signal.SIGKILL

    until_phase(folder, "training")
    folder.send(Stop())
    events = list(chain.from_iterable(RunFollower(folder).batches()))

    assert isinstance(events[0], WorkerStarted)
    assert events[-1].type == "finished"


def test_what_a_worker_prints_is_kept(play: Play, folder: RunFolder) -> None:
    folder.log_path.write_text("from the first session\n")
    play("say:from the second session").wait(30)

    assert folder.log_path.read_text() == "from the first session\nfrom the second session\n"


def test_looking_whether_a_worker_lives_never_keeps_one_from_starting(folder: RunFolder) -> None:
    folder = create_job_folder(folder.jobs_path, DownloadJob(source="nobody/nothing"))
    folder.job_path.write_text("not a job")
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            folder.is_busy()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        processes = []
        for _ in range(3):
            processes.append(start_worker(folder))
            processes[-1].wait(60)
    finally:
        stop.set()
        for looker in lookers:
            looker.join()

    assert [process.poll() for process in processes] == [ExitCode.NOT_TRUSTED] * 3


def test_a_job_that_was_exchanged_before_its_worker_came_to_it_is_not_done(folder: RunFolder) -> None:
    job = create_job_folder(folder.jobs_path, DownloadJob(source="nobody/nothing"))
    job.job_path.write_text(UploadJob(path="/secret", repository="some/body").model_dump_json())

    process = start_worker(job)
    [*_, last] = chain.from_iterable(RunFollower(job, process).batches())

    assert isinstance(last, Failed)
    assert last.kind is FailureKind.NOT_TRUSTED
    assert process.wait(30) == ExitCode.NOT_TRUSTED


def test_a_run_that_was_changed_before_its_worker_came_to_it_is_not_trained(folder: RunFolder) -> None:
    folder.config_path.write_text(folder.config_path.read_text("utf-8") + "\n# changed\n", "utf-8")
    with pytest.raises(StudioError, match="has changed since it was recorded"):
        start_worker(folder)
    assert not folder.log_path.exists()
    assert subprocess.run([*WORKER, str(folder.path)], check=False).returncode == ExitCode.NOT_TRUSTED
    [*_, last] = folder.events()
    assert isinstance(last, Failed)
    assert (last.kind, "has changed" in last.message) == (FailureKind.NOT_TRUSTED, True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGTERM, "ended by SIGTERM: somebody asked it to end"),
        (-63, "ended by signal 63"),
        (0, "without saying how"),
        (26, "another worker is at work"),
        (77, "exit code 77"),
    ],
)
def test_an_ending_is_told_in_words(code: int, words: str) -> None:
    if words == "ended by signal 63" and sys.platform == "win32":
        pytest.skip("Windows has no such signals")

    assert words in ending_in_words(code)
