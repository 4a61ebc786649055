"""The Training page: what follows from the settings is computed, and Start says every problem at once."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.config.run_config import DatasetSource, RunConfig, all_settings
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.data.report import DataReport, RowCounts
from qlora_studio.core.errors import Problem
from qlora_studio.core.memory.step_rate import StepRate
from qlora_studio.storage.drive_space import DriveSpace, Writing
from qlora_studio.ui.training.page import PresetLine, TrainingPage
from qlora_studio.ui.training.view import steps_per_epoch, tiles, total_steps

LEFT = Qt.MouseButton.LeftButton
REPORT = DataReport(path="a.jsonl", rows=RowCounts(total=200, ok=200, training=180, evaluation=20))
CONFIG = RunConfig().with_value("model.source", "starter").with_value("data.path", "a.jsonl")


def texts(page: TrainingPage) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


@pytest.fixture
def page(qapp: QApplication) -> TrainingPage:
    page = TrainingPage()
    page.resize(900, 1000)
    page.render_config(CONFIG)
    page.show()
    qapp.processEvents()  # the tiles find their columns
    return page


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "steps"),
    [(180, 2, 8, 12), (16, 2, 8, 1), (17, 2, 8, 2), (1, 4, 4, 1), (181, 1, 1, 181), (33, 4, 2, 5)],
)
def test_steps_per_epoch_count_the_last_batch_and_the_last_step(
    rows: int, batch: int, accumulation: int, steps: int
) -> None:
    config = CONFIG.with_value("training.batch_size", batch).with_value("training.gradient_accumulation", accumulation)
    report = REPORT.model_copy(update={"rows": RowCounts(training=rows)})
    assert steps_per_epoch(config, report) == steps


def test_steps_in_all_follow_from_the_epochs_or_are_set() -> None:
    assert total_steps(CONFIG, REPORT) == 24
    assert total_steps(CONFIG.with_value("training.epochs", 1.5), REPORT) == 18
    assert total_steps(CONFIG.with_value("training.max_steps", 7), REPORT) == 7
    assert total_steps(CONFIG, None) is None


def test_evaluations_are_counted_before_on_the_way_and_after() -> None:
    def count(every: int) -> str:
        return tiles(CONFIG.with_value("evaluation.every_steps", every), REPORT)[3].value

    assert [count(0), count(100), count(10), count(24), count(12)] == ["2", "2", "4", "2", "3"]


def test_nothing_is_invented_where_the_rows_are_not_known(page: TrainingPage) -> None:
    assert [tile.value for tile in tiles(CONFIG, None)] == ["16", "–", "–", "–", "–", "–"]
    assert "check the data first" in texts(page)


def test_the_time_that_training_takes_is_told_where_a_rate_is_known(page: TrainingPage) -> None:
    rate = StepRate(seconds=300.0, tokens=600_000, row_seconds=10.0)  # 24 steps, 2 evaluations of 20 rows
    assert (tiles(CONFIG, REPORT, rate)[-1].value, tiles(CONFIG, REPORT)[-1].value) == ("≈ 2 h 7 min", "–")
    page.render_dataset(REPORT)
    page.render_rate(rate)
    assert page._tiles[-1].accessibleName() == "Training time: ≈ 2 h 7 min about 2,000 tokens/s"
    page.render_rate(None)
    assert page._tiles[-1].accessibleName() == "Training time: – speed not known here"


def test_the_tiles_follow_the_draft_and_the_dataset(page: TrainingPage) -> None:
    page.render_dataset(REPORT)
    assert page._tiles[2].accessibleName() == "Steps in all: 24 2 epochs"
    page.render_config(CONFIG.with_value("training.batch_size", 4))
    assert page._tiles[0].accessibleName() == "Effective batch: 32 4 × 8 rows a step"
    assert page._tiles[2].accessibleName() == "Steps in all: 12 2 epochs"


def test_every_setting_of_a_run_stands_here_or_on_the_page_it_belongs_to(page: TrainingPage) -> None:
    here = {path for section in page.form.sections for path in section.lines}
    elsewhere = {info.path for info in all_settings()} - here
    on_data_page = {
        f"data.{name}" for name in (*DatasetSource.model_fields, "more", "duplicates", "exclude", "bad_rows")
    }
    on_panel = {"hardware.gpus"}
    assert elsewhere == {"model.source", "model.revision", "export.formats"} | on_data_page | on_panel


def test_a_change_leaves_as_a_signal(page: TrainingPage) -> None:
    asked: list[tuple[str, object]] = []
    page.form.changed.connect(lambda path, value: asked.append((path, value)))
    QTest.keyClick(page.form.line("training.batch_size").field, Qt.Key.Key_Up)
    page.run_name.selectAll()
    QTest.keyClicks(page.run_name, "night run")
    QTest.keyClick(page.run_name, Qt.Key.Key_Return)
    assert asked == [("training.batch_size", 3), ("name", "night run")]


def test_a_preset_is_asked_for_by_name_and_the_box_names_it_only_while_the_draft_is_so(page: TrainingPage) -> None:
    asked: list[str] = []
    page.preset_requested.connect(asked.append)
    page.render_presets([PresetLine("small", "Small card", "For cards with 8 GB.")])
    page.presets.setFocus()
    QTest.keyClick(page.presets, Qt.Key.Key_Down)
    page.presets.activated.emit(page.presets.currentIndex())
    assert "small" in asked
    page.render_preset("small")
    assert "For cards with 8 GB." in texts(page)
    page.render_preset("")
    assert page.presets.currentText() == "Presets …" and "For cards with 8 GB." not in texts(page)


def test_start_asks_to_start(page: TrainingPage) -> None:
    asked: list[bool] = []
    page.start_requested.connect(lambda: asked.append(True))
    QTest.mouseClick(page.start_button, LEFT)
    assert asked == [True]


def test_all_problems_are_said_at_once(page: TrainingPage) -> None:
    page.render_problems([*problems_before_start(RunConfig()), Problem("lora.rank", "must be at least 1, not 0")])
    shown = texts(page)
    assert "Choose a base model." in shown
    assert "Choose a dataset." in shown
    assert "Must be at least 1, not 0" in shown
    page.render_problems([])
    assert "Choose a base model." not in texts(page)


def test_a_field_that_is_not_right_keeps_the_run_from_starting(page: TrainingPage) -> None:
    asked: list[bool] = []
    page.start_requested.connect(lambda: asked.append(True))
    page.form.changed.connect(lambda path, _value: page.render_problems([Problem(path, "must be a number")]))
    rate = page.form.line("training.learning_rate").field
    rate.selectAll()  # type: ignore[attr-defined]
    QTest.keyClicks(rate, "fast")
    QTest.keyClick(rate, Qt.Key.Key_Return)
    QTest.mouseClick(page.start_button, LEFT)
    assert asked == []
    assert "Learning rate: must be a number" in texts(page)


def test_each_drive_is_told_with_what_is_written_there_and_what_is_free(page: TrainingPage) -> None:
    fits = DriveSpace("/", 80 << 30, (Writing(Path("/runs"), "checkpoints", 300 << 20),))
    full = DriveSpace("/home", 1 << 30, (Writing(Path("/home/cache"), "the base in 16 bit", 3 << 30),))
    page.render_drives((full, fits))
    assert page.disk.text().splitlines() == [
        "On the drive /home: 3.0 GiB will be written for the base in 16 bit, only 1.0 GiB free. "
        "Free 2.0 GiB there, or choose another drive.",
        "On the drive /: 300 MiB will be written for checkpoints, 80.0 GiB free.",
    ]


def test_what_stands_on_top_follows_what_is_wrong_by_now_and_leaves_the_page_where_it_is(page: TrainingPage) -> None:
    rate, memory = Problem("data.path", "There is no file a."), Problem("", "The drive has no room: 3 GiB too little.")
    page.render_problems([rate, memory])
    assert page.notice.message.text() == f"{rate.message}\n{memory.message}"
    another = Problem("data.path", "There is no file b.")
    page.render_still_wrong([another, memory])
    assert page.notice.message.text() == f"{another.message}\n{memory.message}"
    page.render_still_wrong([another])
    assert page.notice.message.text() == another.message
    page.render_still_wrong([memory])
    assert page.notice.isHidden(), "what was not told is no news here"
    page.render_still_wrong([another])
    assert page.notice.isHidden()
