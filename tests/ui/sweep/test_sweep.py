"""A run again over a few values: what is proposed, what is refused, what is told of the runs, and what is made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.comparison.sweep import Variation, sweepable_settings, swept, variation
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.run.events import Finished
from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.estimates import EstimatedCard
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.sweep.dialog import SweepDialog
from qlora_studio.ui.sweep.forecast import forecasts
from qlora_studio.ui.sweep.view import Forecast, remark, setting_choices, suggested, summary
from qlora_studio.ui.sweep.wiring import SweepWiring
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page

WaitUntil = Callable[[Callable[[], object]], None]
LEFT = Qt.MouseButton.LeftButton
INFOS = {info.path: info for info in sweepable_settings()}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("lora.rank", 16, "8, 16, 32"),
        ("lora.rank", 1, "1, 2"),
        ("training.learning_rate", 2e-4, "1e-4, 2e-4, 4e-4"),
        ("lora.dropout", 0.0, "0, 0.05, 0.1"),
        ("training.seed", 42, "42, 43, 44"),
        ("training.packing", False, "no, yes"),
        ("training.gradient_checkpointing", "auto", "auto, on, off"),
    ],
)
def test_values_to_begin_with_lie_around_the_runs_own(path: str, value: object, words: str) -> None:
    assert suggested(INFOS[path], value) == words


def test_what_is_suggested_for_any_setting_can_be_run() -> None:
    config = RunConfig()
    assert list(setting_choices())[:2] == ["lora.rank", "training.learning_rate"]
    assert len(set(setting_choices().values())) == len(INFOS)
    for path, info in INFOS.items():
        if words := suggested(info, config.value(path)):
            assert swept(config, [variation(f"{path}={words}")])


def test_the_summary_adds_up_times_only_where_all_are_known() -> None:
    known = [Forecast("a", 3 << 30, FitVerdict.FITS, 600.0), Forecast("b", 4 << 30, FitVerdict.FITS, 1200.0)]

    assert summary(known).startswith("2 runs · ≈ 30 min of training in all")
    assert summary(known).endswith("at most ≈ 4.0 GiB of the card at once")
    assert "in all" not in summary([*known, Forecast("c")])
    assert summary([Forecast("c")]) == "1 run"


def test_a_rank_that_changes_the_scale_of_the_adapters_is_remarked() -> None:
    rank, alpha = Variation("lora.rank", ("8",)), Variation("lora.alpha", ("8",))

    assert "alpha stays 16" in remark(RunConfig(), [rank])
    assert remark(RunConfig(), [rank, alpha]) == ""
    assert "change nothing" in remark(RunConfig().with_value("lora.start_from", "/a"), [rank])


@pytest.fixture
def run(studio_home: Path) -> RunFolder:
    """A run of the starter model that has ended."""
    return write_sample_run(studio_home / "runs" / "1-mine", steps=790, ending=Finished())


def test_what_runs_take_is_told_by_the_estimator_and_by_the_run(run: RunFolder) -> None:
    card = find_gpu("RTX 4060")
    assert card is not None
    config = run.config()
    configs = swept(config, [variation("lora.rank=8,64"), variation("training.epochs=2,4")])
    told = forecasts(RunReadings(), str(run.path), configs, EstimatedCard(free_bytes=card.free_bytes, spec=card))

    small, long, large, _ = told
    assert small.memory_bytes is not None and large.memory_bytes is not None
    assert small.memory_bytes < large.memory_bytes
    assert {item.fit for item in told} == {"fits"}
    assert small.seconds is not None and long.seconds is not None
    assert long.seconds == pytest.approx(2 * small.seconds)
    bare = forecasts(
        RunReadings(), str(run.path), [config.with_value("model.source", "nobody/has-this")], EstimatedCard()
    )
    assert (bare[0].memory, bare[0].fit, bare[0].time) == ("–", "–", "–")


@pytest.fixture
def window(qapp: QApplication) -> Iterator[MainWindow]:
    window = MainWindow(Page())
    window.add_page(RunsPage())
    window.show()
    yield window
    window.close_now()


def test_the_dialog_says_what_is_wrong_and_queues_runs_like_others(
    run: RunFolder, window: MainWindow, wait_until: WaitUntil, studio_home: Path
) -> None:
    studio = Studio(load_settings())
    wiring = SweepWiring(studio, window, RunReadings())
    wiring.open(str(run.path))
    dialog = wiring.dialog
    assert isinstance(dialog, SweepDialog)
    assert dialog.lines[0].values.text() == "8, 16, 32"
    wait_until(lambda: dialog.model.row(0).seconds)  # told after the files were read

    QTest.mouseClick(dialog.more, LEFT)
    rank, rate = dialog.lines
    for field, text in ((rank.values, "8, none"), (rate.values, "1e-4")):
        field.selectAll()
        QTest.keyClicks(field, text)
    assert not dialog.add_button.isEnabled()
    assert rank.values.property("invalid") == "true"
    assert dialog.model.rowCount() == 0

    rank.values.selectAll()
    QTest.keyClicks(rank.values, "8, 64")
    assert dialog.add_button.text() == "Add 2 runs to the queue"
    wait_until(lambda: dialog.model.row(1).memory_bytes)
    QTest.mouseClick(dialog.add_button, LEFT)
    queue = RunQueue(studio_home / "runs")
    wait_until(lambda: len(queue.runs()) == 2)
    made = [item.folder.config() for item in queue.runs()]
    assert [item.name for item in made] == [
        "support-bot rank=8 learning_rate=1e-4",
        "support-bot rank=64 learning_rate=1e-4",
    ]
    assert [(item.lora.rank, item.training.learning_rate) for item in made] == [(8, 1e-4), (64, 1e-4)]
    assert all(item.needed_bytes for item in queue.runs())
    assert made[0].data == run.config().data
    studio.end()


def test_settings_that_are_not_trusted_are_not_run(run: RunFolder, window: MainWindow, studio_home: Path) -> None:
    run.config_path.write_text(run.config_path.read_text() + "\n# changed by somebody\n")
    studio = Studio(load_settings())
    window.show_page("runs")
    wiring = SweepWiring(studio, window, RunReadings())
    wiring.open(str(run.path))

    assert wiring.dialog is None
    assert window.current_page().notice.isVisible()
    assert len(run_folders(studio_home / "runs")) == 1
    studio.end()
