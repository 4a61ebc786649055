"""A run folder, and real child processes that play a script in it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder

_SCRIPTED_WORKER = Path(__file__).with_name("scripted_worker.py")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run_folder(tmp_path / "runs", RunConfig())


@pytest.fixture
def play(folder: RunFolder) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker that plays a script in the folder, by what stands before it; it is killed when the test ends."""
    started = []

    def start(script: str, *before: str) -> WorkerProcess:
        started.append(start_worker(folder, [*before, sys.executable, str(_SCRIPTED_WORKER), script]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)
