"""Several cards that train one run, on the GPU panel: each is shown, some may be left out, a step comes out even."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.quantity import GIB
from qlora_studio.jobs.gpu_sample import GpuCard, GpuSample
from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.kit.charts import StackedBar
from qlora_studio.ui.kit.fields import CheckBox
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.memory.parts import PartsLegend
from qlora_studio.ui.memory.together import card_checks, together_bars, together_title, uneven_advice
from qlora_studio.ui.memory.wiring import PanelWiring
from qlora_studio.ui.state.gpu_store import GpuStore
from qlora_studio.ui.state.studio import Studio
from tests.ui.memory.test_panel import estimate_of, sample_of, shown_texts


def several(*names: str) -> GpuSample:
    """A sample of cards that train together, each with a free GiB less than the one before."""
    cards = tuple(
        replace(sample_of(worker=10.0 + number), index=number, uuid=f"GPU-{number}", name=name, others=())
        for number, name in enumerate(names)
    )
    here = tuple(GpuCard(card.index or 0, card.uuid, card.name, card.total_bytes, 13 * GIB) for card in cards)
    return replace(cards[-1], cards=here, together=cards)


def test_each_card_has_a_bar_and_how_it_is_now(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_wish("all")
    panel.render_samples([several("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090")], [])
    texts = shown_texts(panel)
    assert "2 × NVIDIA GeForce RTX 3090" in texts
    assert [texts[texts.index(title) + 1] for title in ("GPU 0", "GPU 1")] == ["10.8 GiB", "11.8 GiB"]
    assert texts.count("97 % · 68 °C · 402 W") == 2
    panel.render_samples([sample_of()], [])
    assert "GPU 0" not in shown_texts(panel)
    assert len([bar for bar in panel.findChildren(StackedBar) if bar.isVisibleTo(panel)]) == 2


def test_the_legend_of_the_estimate_is_seen_without_scrolling_above_four_cards(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_estimate(estimate_of(10.0))
    panel.render_wish("all")
    panel.render_samples([several(*["NVIDIA GeForce RTX 3090"] * 4)], [])
    panel.resize(316, 690)
    panel.show()
    for _ in range(5):
        qapp.processEvents()
    [legend] = panel.findChildren(PartsLegend)
    assert legend.visibleRegion().boundingRect() == legend.rect()
    panel.close()


def test_unlike_cards_are_named_and_one_that_is_gone_is_told() -> None:
    sample = several("NVIDIA GeForce GTX 1650", "NVIDIA GeForce RTX 4090")
    gone = GpuSample(available=False, index=0, uuid="GPU-0", name="NVIDIA GeForce GTX 1650")
    sample = replace(sample, together=(gone, replace(sample.together[1], throttling=("heat",))))
    assert together_title(sample)[0] == "2 cards together"
    bars = together_bars(sample)
    assert [(bar.title, bar.value) for bar in bars] == [
        ("GPU 0: GTX 1650", "does not answer"),
        ("GPU 1: RTX 4090", "11.8 GiB"),
    ]
    assert bars[1].note.endswith("slowed by heat")


def test_a_card_is_left_out_by_its_box_and_one_has_to_be_left(qapp: QApplication) -> None:
    panel = GpuPanel()
    chosen: list[str] = []
    panel.card_chosen.connect(chosen.append)
    panel.card_chosen.connect(panel.render_wish)
    panel.render_wish("all")
    panel.render_samples([several(*["NVIDIA GeForce RTX 3090"] * 4)], [])
    panel.show()
    boxes = panel.checks.boxes
    assert [box.isChecked() for box in boxes] == [True] * 4
    _click(boxes[1])
    assert panel.cards.currentText() == "3 cards together"
    _click(boxes[1])
    assert chosen == ["GPU-0,GPU-2,GPU-3", "all"]
    panel.card_chosen.disconnect(panel.render_wish)
    for box in boxes:
        _click(box)
    assert chosen[2:] == ["GPU-1,GPU-2,GPU-3", "GPU-2,GPU-3", "GPU-3"]
    assert [box.isChecked() for box in boxes] == [True] * 4, "as they were, where none would be left"


@pytest.mark.parametrize(
    ("count", "wish", "on"),
    [(2, "all", []), (3, "auto", []), (3, "GPU-1", []), (3, "0,GPU-2", [True, False, True]), (3, "all", [True] * 3)],
)
def test_boxes_are_there_where_some_of_several_can_be_chosen(count: int, wish: str, on: list[bool]) -> None:
    cards = several(*["NVIDIA GeForce RTX 3090"] * count).cards
    assert [check.is_on for check in card_checks(cards, wish)] == on


@pytest.mark.parametrize(
    ("batch", "accumulation", "cards", "words"),
    [
        (2, 8, 2, ""),
        (2, 9, 2, "Batch 1 × 18: a step has 18 rows, as now"),
        (2, 8, 3, "Batch 2 × 9: a step has 18 rows in place of 16"),
    ],
)
def test_a_step_that_does_not_come_out_even_is_mended_by_one_click(
    batch: int, accumulation: int, cards: int, words: str
) -> None:
    config = RunConfig().with_value("training.batch_size", batch)
    advice = uneven_advice(config.with_value("training.gradient_accumulation", accumulation), cards)
    assert (advice[1] if advice else "") == words
    for path, value in (advice[2] if advice else {}).items():
        config = config.with_value(path, value)
    assert not words or uneven_advice(config, cards) is None


def test_one_click_mends_a_step_that_does_not_come_out_even(qapp: QApplication) -> None:
    studio, panel = Studio(load_settings()), GpuPanel()
    PanelWiring(studio, panel)
    studio.gpu.add(several(*["NVIDIA GeForce RTX 3090"] * 3))
    studio.draft.set_values({"hardware.gpus": "all", "training.batch_size": 2, "training.gradient_accumulation": 8})
    assert "The gradient accumulation of this run, 8, cannot be dealt evenly to 3 cards." in shown_texts(panel)
    mend = panel.shares.findChild(QPushButton)
    assert isinstance(mend, QPushButton)
    studio.gpu.add(several(*["NVIDIA GeForce RTX 3090"] * 3))
    mend.click()
    assert studio.draft.config.training.gradient_accumulation == 9
    assert panel.shares.isHidden()
    studio.estimates.end()


def test_what_a_run_took_is_what_the_card_took_that_took_most(qapp: QApplication) -> None:
    store = GpuStore()
    sample = several("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090")
    store.add(replace(sample, worker_bytes=GIB))
    assert store.measured_bytes == 11 * GIB


def _click(box: CheckBox) -> None:
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
