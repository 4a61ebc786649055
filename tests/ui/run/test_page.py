"""The Run page says what the run got over, and what it waits for."""

from pathlib import Path

import pytest
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QLabel, QPushButton

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.commands import AcceptChanges, LowerRate
from qlora_studio.core.run.events import (
    AdapterContinued,
    CheckpointSaved,
    DatasetPrepared,
    Event,
    Failed,
    Finished,
    Paused,
    PhaseChanged,
    Recovering,
    StepDone,
    StoppedEarly,
    TrainingStarted,
    Warned,
    WorkerStarted,
)
from qlora_studio.core.run.reports import AwakeReport, AwakeReported
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.run.recovery_action import RecoveryAction
from qlora_studio.ui.state.run_store import RunStore
from tests.ui.taken_events import take


def _page_after(folder: Path, *events: Event) -> RunPage:
    store = RunStore()
    store.open(RunFolder(folder), RunConfig())
    take(store, (WorkerStarted(job="train", studio="test", pid=1), *events))
    page = RunPage()
    page.render_run(store)
    return page


def _texts(page: RunPage) -> str:
    return " ".join(label.text() for label in page.findChildren(QLabel))


def test_a_recovery_is_told(qapp: QApplication, tmp_path: Path) -> None:
    words = "Out of memory: the batch is halved to 1, accumulation doubled."
    recovering = Recovering(
        kind=FailureKind.OUT_OF_MEMORY, message=words, step=6, batch_size=1, gradient_accumulation=4
    )
    assert words in _texts(_page_after(tmp_path, recovering))


def test_early_stopping_is_told_until_the_run_trains_on(qapp: QApplication, tmp_path: Path) -> None:
    step = StepDone(step=1300, total_steps=2000, epoch=1.0, loss=1.0, learning_rate=1e-4)
    told = "Stopped early: the held-out loss did not get better for 1 evaluation (step 1,200)."
    early = StoppedEarly(step=1200, evaluations=1)
    assert told in _texts(_page_after(tmp_path, early, Finished()))
    assert told not in _texts(_page_after(tmp_path, early, Paused(step=1200, checkpoint="x"), step))


def test_a_run_that_waits_for_space_offers_to_go_on(qapp: QApplication, tmp_path: Path) -> None:
    words = "The disk is full. Free 2.1 GiB, then press Resume. Nothing is lost."
    page = _page_after(tmp_path, PhaseChanged(phase="waiting_for_space"), Warned(kind="disk_full", message=words))
    assert words in _texts(page)
    assert not page._resume.isHidden()


def _primary_buttons(page: RunPage) -> list[str]:
    buttons = page.findChildren(QPushButton)
    return [item.text() for item in buttons if item.property("kind") == "primary" and item.isVisibleTo(page)]


SAVED = CheckpointSaved(step=800, name="checkpoint-800", size_bytes=1, seconds=0.1)


def test_after_an_infinite_loss_one_button_rolls_back_and_halves_the_rate(qapp: QApplication, tmp_path: Path) -> None:
    page = _page_after(
        tmp_path, SAVED, Failed(kind=FailureKind.NON_FINITE_LOSS, message="At step 812 the loss became infinite.")
    )
    asked: list[RecoveryAction] = []
    page.recovery_action_requested.connect(asked.append)
    assert _primary_buttons(page) == ["Go on from step 800 with half the rate"]
    page._other_way.click()
    (way,) = asked
    assert isinstance(way.command, LowerRate)
    assert (way.command.factor, way.question) == (0.5, "")


@pytest.mark.parametrize(
    ("kind", "label", "gpus"),
    [
        (FailureKind.NO_CARD, "Train on a card that is here", "auto"),
        (FailureKind.CARD_UNUSABLE, "Train on the processor …", "cpu"),
    ],
)
def test_without_the_card_another_way_to_compute_is_offered(
    qapp: QApplication, tmp_path: Path, kind: FailureKind, label: str, gpus: str
) -> None:
    page = _page_after(tmp_path, Failed(kind=kind, message="The card is not there."))
    asked: list[RecoveryAction] = []
    page.recovery_action_requested.connect(asked.append)
    page._other_way.click()
    assert [(way.label, way.gpus) for way in asked] == [(label, gpus)]


def test_after_a_mismatch_going_on_all_the_same_is_offered_and_asked_about(qapp: QApplication, tmp_path: Path) -> None:
    page = _page_after(
        tmp_path, SAVED, Failed(kind=FailureKind.FINGERPRINT_MISMATCH, message="The base model is another one.")
    )
    asked: list[RecoveryAction] = []
    page.recovery_action_requested.connect(asked.append)
    assert _primary_buttons(page) == ["Resume"], "the risk is not what is advised"
    page._other_way.click()
    assert isinstance(asked[0].command, AcceptChanges)
    assert "record" in asked[0].question


def test_after_any_other_end_resume_is_the_one_primary_button(qapp: QApplication, tmp_path: Path) -> None:
    page = _page_after(
        tmp_path, SAVED, Failed(kind=FailureKind.WORKER_DIED, message="The worker was ended by SIGKILL.")
    )
    assert _primary_buttons(page) == ["Resume"]
    assert page.notice.property("notice") == "bad"


def test_what_its_user_cancelled_is_told_calmly_and_an_error_afterwards_is_not(
    qapp: QApplication, tmp_path: Path
) -> None:
    page = _page_after(tmp_path, SAVED, Failed(kind=FailureKind.INTERRUPTED, message="The job was cancelled."))
    assert page.notice.message.text() == "The job was cancelled."
    assert page.notice.property("notice") == "info"
    assert _primary_buttons(page) == ["Resume"]
    page.show_error(ValueError("The disk is full."))
    assert page.notice.property("notice") == "bad"


@pytest.mark.parametrize(
    ("active", "words"), [(True, "This computer is kept awake"), (False, "could not be kept awake")]
)
def test_whether_the_computer_is_kept_awake_is_told_while_a_run_is_at_work(
    qapp: QApplication, tmp_path: Path, active: bool, words: str
) -> None:
    told = AwakeReported(report=AwakeReport(active=active))
    assert words in _texts(_page_after(tmp_path, told))
    assert words not in _texts(_page_after(tmp_path, told, Failed(kind=FailureKind.ERROR, message="It ended.")))


def test_in_a_small_window_the_curves_are_seen_whole_below_the_figures(qapp: QApplication, tmp_path: Path) -> None:
    step = StepDone(step=4, total_steps=9, epoch=0.6, loss=0.9, learning_rate=1e-4, tokens_per_second=2300)
    page = _page_after(tmp_path, PhaseChanged(phase="training"), step)
    for size, is_low in (((600, 608), True), ((780, 690), False)):
        page.resize(*size)
        page.show()
        for _ in range(5):
            qapp.processEvents()
        seen = page.plots.visibleRegion().boundingRect().size()
        assert seen == page.plots.size() and seen.height() > 300
        notes = [label for label in page.findChildren(QLabel) if label.text() == "smoothed" and label.isVisible()]
        assert bool(notes) != is_low, "what is said of a figure gives way"
    page.close()


def test_the_run_that_it_goes_on_from_is_named_and_can_be_looked_at(qapp: QApplication, tmp_path: Path) -> None:
    continued = AdapterContinued(parent="adapter", run="20260101-120000-second", stages=["first", "second"])
    page, asked = _page_after(tmp_path, continued), []
    page.parent_requested.connect(lambda: asked.append(True))
    assert "goes on from first → second" in _texts(page)
    [look] = [action for action in page.findChildren(QAction) if "goes on from" in action.text()]
    assert look.isVisible()
    look.trigger()
    assert asked == [True]
    [nothing] = [action for action in _page_after(tmp_path).findChildren(QAction) if "goes on from" in action.text()]
    assert not nothing.isVisible()


def test_a_run_without_held_out_rows_offers_no_evaluation(qapp: QApplication, tmp_path: Path) -> None:
    for held_out in (0, 4):
        counts = {"rejected_rows": 0, "tokens": 90, "trained_tokens": 60, "longest": 20}
        prepared = DatasetPrepared(training_rows=9, evaluation_rows=held_out, **counts)
        page = _page_after(tmp_path, prepared, TrainingStarted(step=0, total_steps=9), PhaseChanged(phase="training"))
        [evaluate] = [action for action in page.findChildren(QAction) if action.text() == "Evaluate now"]
        assert evaluate.isEnabled() is bool(held_out)
