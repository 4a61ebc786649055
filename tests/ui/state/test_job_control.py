"""A job is ended at once, and what it started ends with it."""

from pathlib import Path

from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import PhaseChanged
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.state.job_control import JobControl
from qlora_studio.ui.state.job_thread import wait_for_threads


def test_a_job_that_is_ended_while_its_worker_starts_leaves_no_worker_and_waits_for_nothing(
    qapp: QApplication, studio_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "short"}\n')
    control = JobControl()
    job = DataJob(config=RunConfig().with_value("data.path", str(tmp_path / "rows.jsonl")), stay=True, tokenize=False)
    assert control.start(studio_home / "jobs", job)
    thread, folder = control._thread, control.store.folder
    assert thread is not None and folder is not None
    control.store.take((PhaseChanged(phase="ready"),))
    control.end()
    assert control.store.state == RunState(), "what is ended is not ready any more"
    assert not control.is_at_work()
    assert not thread.isFinished(), "whoever waits for a thread that starts a process keeps the window waiting"
    wait_for_threads()
    assert thread.process is not None and thread.process.wait(10) is not None
    assert not folder.is_busy()
