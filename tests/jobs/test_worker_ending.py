"""A worker that does not answer is told to end and then killed; another program's process is never touched."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import acknowledge_breakdown, end_worker
from qlora_studio.jobs.worker_process import WorkerProcess
from qlora_studio.storage.runs.run_folder import RunFolder


def _named_like_a_worker(play: Callable[[str], WorkerProcess], folder: RunFolder, script: str) -> WorkerProcess:
    """Start the scripted worker; its command line ends as a worker's does: `worker FOLDER`."""
    process = play(f"{script}")
    for batch in RunFollower(folder, process).batches():
        if any(event.type == "worker_started" for event in batch):
            break
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot freeze a process")
def test_a_frozen_worker_is_killed_and_its_folder_is_free(
    play: Callable[[str], WorkerProcess], folder: RunFolder
) -> None:
    process = _named_like_a_worker(play, folder, "start,worker,wait")
    os.kill(process.pid, signal.SIGSTOP)
    assert end_worker(folder, process.pid, grace_seconds=1) is True
    assert process.wait(10) in (-signal.SIGKILL, -signal.SIGTERM)
    assert not folder.is_busy()


def test_a_process_that_is_no_worker_of_this_folder_is_left_alone(folder: RunFolder) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert end_worker(folder, other.pid, grace_seconds=0.2) is True
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_breakdown_is_put_on_record_once_and_never_while_a_worker_lives(
    play: Callable[[str], WorkerProcess], folder: RunFolder
) -> None:
    process = _named_like_a_worker(play, folder, "start,worker,wait")
    with pytest.raises(StudioError):
        acknowledge_breakdown(folder)
    process.kill()
    process.wait(10)
    assert not folder.state().phase.is_over
    acknowledge_breakdown(folder)
    acknowledge_breakdown(folder)
    assert folder.state().phase is Phase.FAILED
    assert [event.type for event in folder.events()].count("failed") == 1
