"""The window has a worker wait while nothing is at work in it, as its user allows."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.state.studio import Studio

pytestmark = pytest.mark.skipif(not IdleWorker().may_wait(), reason="this machine has no room for one")

_ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = (sys.executable, "-m", "tests.jobs.scripted_idle_worker", "start,phase:training,wait_for_stop,finish")


@pytest.fixture
def studio(qapp: QApplication, studio_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    studio = Studio(Settings())
    studio.idle = IdleWorker(_SCRIPT)
    yield studio
    studio.end()


def somebody_waits() -> bool:
    return any("supervise-idle" in _words(child) for child in psutil.Process().children())


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):  # it has ended just now
        return []


def test_one_waits_until_the_user_wants_none(studio: Studio) -> None:
    studio.look_after_idle_worker()
    assert somebody_waits()

    studio.change_settings(idle_worker="none")
    studio.look_after_idle_worker()

    assert not somebody_waits()


def test_none_waits_beside_a_run_at_work(
    studio: Studio, tmp_path: Path, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    studio.look_after_idle_worker()
    folder = create_run_folder(tmp_path / "runs", RunConfig())
    process = start_worker(folder, [*_SCRIPT, "worker"])
    studio.runs.open(folder)
    wait_until(studio.runs.at_work)

    studio.look_after_idle_worker()
    assert not somebody_waits()

    process.ask_stop()
    wait_until(lambda: not studio.runs.at_work())
    studio.look_after_idle_worker()
    assert somebody_waits()
    process.wait(30)


def test_one_that_waits_ends_with_the_window(studio: Studio) -> None:
    studio.look_after_idle_worker()

    studio.end()

    assert not somebody_waits()
