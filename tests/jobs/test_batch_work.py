"""A job's run is trusted by the hash that its script says, and a job that is asked to end pauses its run."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause, parse_command
from qlora_studio.jobs.batch_work import work_in_job
from qlora_studio.jobs.worker_process import SUPERVISOR
from qlora_studio.storage.runs.message_log import MessageLogReader
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trust import objection

_WORKER = (sys.executable, str(Path(__file__).parent / "scripted_worker.py"))


@pytest.fixture
def sent(tmp_path: Path) -> RunFolder:
    """A run that was sent here: nobody trusts it yet."""
    folder = RunFolder(tmp_path / "sent-run")
    folder.path.mkdir()
    folder.config_path.write_text(to_toml(RunConfig.model_validate({"model": {"source": "m"}, "data": {"path": "d"}})))
    return folder


def _hash(folder: RunFolder) -> str:
    return hashlib.sha256(folder.config_path.read_bytes()).hexdigest()


def test_a_run_that_is_not_the_one_that_was_submitted_is_not_trained(sent: RunFolder) -> None:
    with pytest.raises(StudioError, match="is not the one that was submitted"):
        work_in_job(sent, "0" * 64, (), lambda pause: None, (*_WORKER, "start,finish"))

    assert not sent.events_path.exists()
    assert objection(sent.path) is not None


def test_a_signal_to_every_process_of_a_job_asks_the_run_to_pause_and_ends_no_worker(sent: RunFolder) -> None:
    paused: list[Callable[[], None]] = []

    def listen(pause: Callable[[], None]) -> None:
        while not sent.events_path.exists() or sent.state().step < 2:
            pass
        for process in psutil.Process().children(recursive=True):
            os.kill(process.pid, signal.SIGTERM)
        paused.append(pause)
        pause()

    work = "start,steps:2,wait_for_pause,pause"
    state = work_in_job(sent, _hash(sent), (), listen, (*SUPERVISOR, *_WORKER, work))

    assert state.phase is Phase.PAUSED
    assert [warning.kind for warning in state.warnings] == ["job_ends"]
    assert [type(command) for command in MessageLogReader(sent.commands_path, parse_command).new()] == [Pause]
    assert paused


def test_a_worker_that_dies_in_a_job_is_put_on_record_there(sent: RunFolder) -> None:
    work_in_job(sent, _hash(sent), (), lambda pause: None, (*_WORKER, "start,steps:2,exit:9"))

    assert sent.state().failure is not None


def test_a_job_that_is_run_again_after_its_run_is_finished_does_nothing(sent: RunFolder) -> None:
    work_in_job(sent, _hash(sent), (), lambda pause: None, (*_WORKER, "start,finish"))
    size = sent.events_path.stat().st_size

    assert work_in_job(sent, _hash(sent), (), lambda pause: None).phase is Phase.FINISHED
    assert sent.events_path.stat().st_size == size
