"""The Run page says what the run got over, and what it waits for."""

from pathlib import Path

from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.events import PhaseChanged, Recovering, Warned, WorkerStarted
from qlora_studio.core.run_config import RunConfig
from qlora_studio.storage.run_folder import RunFolder
from qlora_studio.ui.run_page import RunPage
from qlora_studio.ui.run_store import RunStore


def _page_after(folder: Path, *events: object) -> RunPage:
    store = RunStore()
    store.open(RunFolder(folder), RunConfig())
    store.apply((WorkerStarted(job="train", studio="test", pid=1), *events))  # type: ignore[arg-type]
    page = RunPage()
    page.render_run(store)
    return page


def _texts(page: RunPage) -> str:
    return " ".join(label.text() for label in page.findChildren(QLabel))


def test_a_recovery_is_told(qapp: QApplication, tmp_path: Path) -> None:
    words = "Out of memory: the batch is halved to 1, accumulation doubled."
    recovering = Recovering(kind="out_of_memory", message=words, step=6, batch_size=1, gradient_accumulation=4)
    assert words in _texts(_page_after(tmp_path, recovering))


def test_a_run_that_waits_for_space_offers_to_go_on(qapp: QApplication, tmp_path: Path) -> None:
    words = "The disk is full. Free 2.1 GiB, then press Resume. Nothing is lost."
    page = _page_after(tmp_path, PhaseChanged(phase="waiting_for_space"), Warned(kind="disk_full", message=words))
    assert words in _texts(page)
    assert not page._resume.isHidden()
