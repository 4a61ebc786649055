"""An upload is asked for only when it is clear what goes where; it says how it goes, and how it ended."""

import json
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed, Finished, Progressed, WorkerStarted
from qlora_studio.core.run.job import UploadJob
from qlora_studio.core.run.reports import UploadReport, UploadReported
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.storage.runs.export_folder import staged_export
from qlora_studio.ui.export.upload_panel import UploadPanel

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    with staged_export(folder) as staged:
        (staged.path / "model.safetensors").write_bytes(bytes(2 << 20))
        (staged.path / "README.md").write_text("# A model")
    (folder / "verification.json").write_text(json.dumps({"verified": True}))
    return folder


@pytest.fixture
def panel(qapp: QApplication, export: Path) -> UploadPanel:
    panel = UploadPanel(str(export))
    panel.show()
    return panel


def texts(panel: UploadPanel) -> str:
    return "\n".join(label.text() for label in panel.findChildren(QLabel) if label.isVisibleTo(panel))


def state_after(*events: object) -> RunState:
    state = reduce(RunState(), WorkerStarted(job="upload", studio="0", pid=1))
    for event in events:
        state = reduce(state, event)  # type: ignore[arg-type]
    return state


def test_what_goes_where_and_who_sees_it_is_said_before_anything_is_sent(panel: UploadPanel, export: Path) -> None:
    asked: list[UploadJob] = []
    panel.upload_requested.connect(asked.append)
    assert not panel.upload.isEnabled()
    QTest.keyClicks(panel.repository, "captain/log-bot")
    assert "4 files, 2.0 MiB, go to huggingface.co/captain/log-bot. Only you" in texts(panel)
    assert "model.safetensors (2.0 MiB)" in texts(panel)
    QTest.mouseClick(panel.upload, LEFT)
    assert asked == [UploadJob(path=str(export), repository="captain/log-bot")]


def test_a_public_upload_is_said_to_be_seen_by_everybody(panel: UploadPanel) -> None:
    asked: list[UploadJob] = []
    panel.upload_requested.connect(asked.append)
    QTest.keyClicks(panel.repository, "captain/log-bot")
    panel.private.click()
    assert "Everybody can see it." in texts(panel)
    QTest.mouseClick(panel.upload, LEFT)
    assert not asked[0].private


def test_what_is_not_verified_is_uploaded_only_if_one_insists(panel: UploadPanel, export: Path) -> None:
    asked: list[UploadJob] = []
    panel.upload_requested.connect(asked.append)
    (export / "verification.json").unlink()
    panel.look()
    QTest.keyClicks(panel.repository, "captain/log-bot")
    assert "not verified" in texts(panel)
    assert not panel.upload.isEnabled()
    panel.insist.click()
    QTest.mouseClick(panel.upload, LEFT)
    assert asked[0].force


def test_a_trace_of_this_computer_is_named(panel: UploadPanel, export: Path) -> None:
    (export / "README.md").write_text("in /home/alice/x")
    panel.look()
    assert "README.md, line 1: /home/alice/x" in texts(panel)


def test_progress_and_the_end_are_told(panel: UploadPanel) -> None:
    QTest.keyClicks(panel.repository, "captain/log-bot")
    progress = Progressed(what="uploading", done=1 << 20, total=2 << 20, unit="bytes")
    panel.render_job(state_after(progress))
    assert "Uploading: 1.0 MiB of 2.0 MiB" in texts(panel)
    assert panel.stop.isVisibleTo(panel)
    assert not panel.upload.isEnabled()
    done = UploadReported(report=UploadReport(url="https://huggingface.co/captain/log-bot"))
    panel.render_job(state_after(progress, done, Finished()))
    assert "Uploaded: https://huggingface.co/captain/log-bot" in texts(panel)
    assert panel.upload.isEnabled()
    panel.render_job(
        state_after(Failed(kind=FailureKind.HUB_LOGIN, message="You are not logged in.", advice="Run it."))
    )
    assert "You are not logged in. Run it." in texts(panel)
    panel.render_job(state_after(progress, Finished(status="stopped")))
    assert "Stopped." in texts(panel)
