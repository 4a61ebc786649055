"""The GPU panel in each of its states: fits, tight, does not fit, no card, other programs."""

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication, QPushButton

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate, make_components
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fastest import FastestFit, Situation, fastest_fit
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.quantity import GIB, MIB
from qlora_studio.core.run.reports import RunEstimateReported
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.gpu_sample import GpuCard, GpuProcess, GpuSample
from qlora_studio.jobs.process_memory import ProcessMemory
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.memory.view import (
    available_bytes,
    card_bar,
    card_choices,
    card_title,
    estimate_bar,
    estimate_title,
    fit_text,
    is_worth_it,
    legend_text,
    machine_bar,
    program_lines,
)
from qlora_studio.ui.showcase.cards import recorded_cards
from tests.core.memory.test_estimator import LLAMA_8B

ABSENT = GpuSample(available=False, reason="No NVIDIA driver is installed.")
MEMORY = ProcessMemory(worker_bytes=2 * GIB, machine_total_bytes=24 * GIB, machine_available_bytes=12 * GIB)


def estimate_of(gib: float) -> Estimate:
    sizes = {"weights": int(0.6 * gib * GIB), "activations": int(0.4 * gib * GIB) - 500 * MIB, "context": 500 * MIB}
    total = sum(sizes.values())
    return Estimate(
        components=make_components(sizes),
        allocated_bytes=total - 500 * MIB,
        reserved_bytes=total - 500 * MIB,
        managed_bytes=0,
        context_bytes=500 * MIB,
        total_bytes=total,
        error_share=0.05,
        level="instant",
        peak_phase="backward",
        phases=(),
    )


def sample_of(*, worker: float | None = None, other: float = 0.5, reserved: float = 0.3) -> GpuSample:
    used = (worker or 0.0) + other
    return GpuSample(
        available=True,
        index=0,
        uuid="GPU-1",
        name="NVIDIA RTX 4090",
        driver="580.95",
        total_bytes=24 * GIB,
        used_bytes=int(used * GIB),
        reserved_bytes=int(reserved * GIB),
        worker_bytes=None if worker is None else int(worker * GIB),
        other_bytes=int(other * GIB),
        others=(GpuProcess(1, "firefox", GIB), GpuProcess(2, "Xorg", GIB), GpuProcess(3, "blender", GIB)),
        utilisation_percent=97,
        temperature_celsius=68,
        power_watts=402.0,
        power_limit_watts=450.0,
    )


@pytest.mark.parametrize(("gib", "verdict"), [(10.0, FitVerdict.FITS), (22.6, FitVerdict.TIGHT), (40.0, FitVerdict.NO)])
def test_the_chip_says_whether_the_estimate_fits_the_card(qapp: QApplication, gib: float, verdict: FitVerdict) -> None:
    panel = GpuPanel()
    panel.render_samples([sample_of()], [])
    panel.render_estimate(estimate_of(gib))
    fit = panel.fit()
    assert fit is not None
    assert fit.verdict == verdict
    words = {FitVerdict.FITS: "fits", FitVerdict.TIGHT: "tight", FitVerdict.NO: "does not fit"}[verdict]
    assert words in shown_texts(panel)


def test_memory_of_other_programs_makes_a_run_fit_no_longer(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_estimate(estimate_of(10.0))
    panel.render_samples([sample_of(other=13.9)], [])
    fit = panel.fit()
    assert fit is not None
    assert fit.verdict != FitVerdict.FITS
    assert "firefox, Xorg and 1 more 13.9" in " ".join(shown_texts(panel))


def test_without_a_card_the_panel_says_why_and_shows_the_machines_memory(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_samples([ABSENT], [MEMORY])
    panel.render_estimate(estimate_of(10.0))
    texts = shown_texts(panel)
    assert "No NVIDIA card" in texts
    assert "No NVIDIA driver is installed. Runs are trained on the processor." in texts
    assert "This computer" in texts
    assert "this run 2.0 GiB · other programs 10.0 GiB" in texts
    assert panel.fit() is None


def test_a_card_that_is_assumed_judges_the_estimate_where_there_is_none(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_samples([ABSENT], [MEMORY])
    panel.render_assumed("RTX 4090 24 GB", 24 * GIB, 23 * GIB)
    panel.render_estimate(estimate_of(10.0))
    fit = panel.fit()
    assert fit is not None
    assert fit.verdict == FitVerdict.FITS
    assert fit.free_bytes == 23 * GIB, "the step in the rail goes by what is free, too"
    assert "Estimate on RTX 4090 24 GB" in shown_texts(panel)


def test_a_lever_is_asked_for_by_its_values(qapp: QApplication) -> None:
    panel = GpuPanel()
    asked: list[dict[str, object]] = []
    panel.advice.change_requested.connect(asked.append)
    change = {"training.max_length": 1024}
    panel.advice.show_advice("Too much", "Each helps:", [("Max length 2048 → 1024 saves 1.2 GiB", change)])
    button = panel.advice.findChild(QPushButton)
    assert isinstance(button, QPushButton)
    assert button.accessibleName() == "Use: Max length 2048 → 1024 saves 1.2 GiB"
    button.click()
    assert asked == [{"training.max_length": 1024}]


def test_what_is_proposed_for_speed_names_first_what_costs_quality() -> None:
    shape = shape_from_config(LLAMA_8B)

    def proposed(config: RunConfig, gib: int) -> FastestFit:
        card = find_gpu("RTX 4090")
        return fastest_fit(config, Situation(shape, card, gib * GIB, lambda tried: estimate(tried, shape, gpu=card)))

    slow = RunConfig().with_value("training.gradient_checkpointing", "on").with_value("lora.dropout", 0.05)
    faster, smaller, nothing = proposed(slow, 24), proposed(slow.with_value("lora.rank", 512), 8), proposed(slow, 4)
    assert fit_text(faster).startswith("Batch 1 × 16, 4 of 32 layers checkpointed: about")
    assert fit_text(smaller).startswith("LoRA rank")
    assert [is_worth_it(found) for found in (faster, smaller, nothing)] == [True, True, False]
    assert not is_worth_it(proposed(faster.proposal.config, 24))


def test_the_bar_of_now_tells_this_run_from_others_and_adds_up_to_what_is_in_use() -> None:
    view = card_bar(sample_of(worker=9.7, other=0.9))
    assert [part.label for part in view.parts] == ["this run", "firefox, Xorg and 1 more", "reserved"]
    assert sum(part.value for part in view.parts) / GIB == pytest.approx(10.9, abs=0.01)
    assert view.value == "10.9 GiB"
    assert view.after == "of 24.0 GiB"


def test_the_panel_lists_the_other_programs_one_by_one(qapp: QApplication) -> None:
    programs = GpuProcess(7, "python", 2 * GIB), GpuProcess(9, "python", GIB), GpuProcess(3, "Xorg", 256 * MIB)
    sample = replace(sample_of(worker=5.0, other=3.75), others=programs)
    panel = GpuPanel()
    panel.render_samples([sample], [])
    lines = [
        ("python (7)", "2.0 GiB"),
        ("python (9)", "1.0 GiB"),
        ("Xorg", "256 MiB"),
        ("Not attributed", "512 MiB"),
    ]
    assert list(program_lines(sample)) == lines
    assert {text for line in lines for text in line} <= set(shown_texts(panel))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"others": (GpuProcess(1, "game.exe", None),)}, (("game.exe", "not told by this driver"),)),
        ({"others": (), "others_told": False}, (("Other programs", "not told by this driver"),)),
        ({"others": (), "other_bytes": 0}, ()),
    ],
    ids=["Windows tells names alone", "WSL2 tells nothing", "there are none"],
)
def test_what_the_driver_does_not_tell_of_other_programs_is_said(
    changes: dict[str, Any], lines: tuple[tuple[str, str], ...]
) -> None:
    assert program_lines(replace(sample_of(), **changes)) == lines


def test_both_bars_share_one_scale() -> None:
    assert estimate_bar(estimate_of(10), 24 * GIB).total == card_bar(sample_of()).total


def test_a_card_that_tells_little_is_shown_without_inventing_the_rest(qapp: QApplication) -> None:
    mute = GpuSample(available=True, name="NVIDIA T4", index=1, total_bytes=16 * GIB)
    panel = GpuPanel()
    panel.render_samples([mute], [])
    assert card_title(mute) == ("NVIDIA T4", "16.0 GiB · GPU 1")
    assert "not told" in shown_texts(panel)
    assert not any("None" in text for text in shown_texts(panel))


def test_what_was_measured_is_compared_with_nothing_but_the_estimate_of_the_run_that_took_it(
    qapp: QApplication,
) -> None:
    panel = GpuPanel()
    panel.render_measured(10 * GIB)
    panel.render_estimate(estimate_of(8.0))
    panel.render_run(None, None)
    assert not any("the estimate" in text for text in shown_texts(panel)), "of the draft, which nobody has started"

    panel.render_run(RunState(), run_that_should_take(8.0))
    assert any("over the estimate" in text for text in shown_texts(panel))
    panel.render_run(run_that_should_take(8.0), run_that_should_take(16.0))
    assert any("under the estimate" in text for text in shown_texts(panel))


def run_that_should_take(gib: float) -> RunState:
    return RunState(reports=(RunEstimateReported(report=estimate_of(gib).to_report()),))


@pytest.mark.parametrize(
    ("cards", "wish", "words"),
    [
        (2, "all", "Both cards together"),
        (1, "all", "All cards: one is here"),
        (0, "all", "All cards: one is here"),
        (2, "0,1", "Both cards together"),
        (2, "GPU-0,GPU-1", "Both cards together"),
        (2, "0,7", "2 cards, not all seen here"),
        (1, "0,1,2", "3 cards, not all seen here"),
    ],
)
def test_a_wish_for_several_cards_says_how_many_are_here(cards: int, wish: str, words: str) -> None:
    here = tuple(GpuCard(index, f"GPU-{index}", "RTX 4090", 24 * GIB, 20 * GIB) for index in range(cards))
    assert card_choices(replace(sample_of(), cards=here), wish)[wish] == words


def test_what_a_run_can_have_leaves_out_the_driver_and_other_programs() -> None:
    assert available_bytes(sample_of(worker=5.0, other=2.0, reserved=1.0)) == 21 * GIB
    assert available_bytes(ABSENT) is None


def test_the_machines_memory_is_split_into_this_run_and_the_rest() -> None:
    view = machine_bar(MEMORY)
    assert [(part.label, part.value) for part in view.parts] == [("this run", 2 * GIB), ("other programs", 10 * GIB)]


def test_the_legend_speaks_in_one_unit() -> None:
    assert legend_text(300 * MIB, 10 * GIB) == "0.29 GiB"
    assert legend_text(3 * MIB, 10 * GIB) == "< 0.01 GiB"
    assert legend_text(300 * MIB, 2 * GIB) == "300 MiB"


def shown_texts(panel: GpuPanel) -> list[str]:
    return [
        getattr(label, "whole_text", label.text)()
        for label in panel.findChildren(Label)
        if label.isVisibleTo(panel) and label.text()
    ]


CARDS = (GpuCard(0, "GPU-1", "NVIDIA RTX 4090", 24 * GIB, 22 * GIB), GpuCard(1, "GPU-2", "RTX 3090", 24 * GIB, None))


def test_one_of_several_cards_is_chosen_on_the_panel(qapp: QApplication) -> None:
    panel = GpuPanel()
    chosen: list[str] = []
    panel.card_chosen.connect(chosen.append)
    panel.render_samples([replace(sample_of(), cards=CARDS)], [])
    assert not panel.cards.isHidden()
    words = [panel.cards.itemText(number) for number in range(panel.cards.count())]
    assert words == [
        "Auto: the freest card",
        "GPU 0: NVIDIA RTX 4090, 22.0 GiB free",
        "GPU 1: RTX 3090, free memory not told",
        "Both cards together",
        "The processor",
    ]
    panel.cards.setCurrentIndex(2)
    panel.cards.activated.emit(2)
    assert chosen == ["GPU-2"]


@pytest.mark.parametrize(
    ("cards", "wish", "shown"),
    [
        (CARDS[:1], "auto", ""),
        ((), "auto", ""),
        (CARDS[:1], "cpu", "The processor"),
        (CARDS, "GPU-gone", "GPU-gone, not seen here"),
        (CARDS, "1", "GPU 1"),
        (CARDS, "all", "Both cards together"),
        (CARDS, "0,GPU-b,2", "3 cards, not all seen here"),
    ],
)
def test_the_choice_is_shown_where_there_is_one(
    qapp: QApplication, cards: tuple[GpuCard, ...], wish: str, shown: str
) -> None:
    panel = GpuPanel()
    panel.render_wish(wish)
    panel.render_samples([replace(sample_of(), cards=cards)], [])
    assert panel.cards.isHidden() is (shown == "")
    assert shown in ("", panel.cards.currentText())


def test_the_estimate_of_cards_that_train_together_is_of_each() -> None:
    assert estimate_title(estimate_of(10.0), "", "all") == "Estimate, for each card"
    assert estimate_title(estimate_of(10.0), "", "0") == "Estimate"
    assert estimate_title(estimate_of(10.0), "", "all", here=False) == "Estimate, on a card"


def test_a_lost_card_is_a_state_of_its_own_with_its_advice() -> None:
    lost = GpuSample(available=False, reason="No NVIDIA card is installed.", name="NVIDIA RTX 4090", is_lost=True)
    name, facts = card_title(lost)
    assert name == "NVIDIA RTX 4090"
    assert "stopped answering" in facts
    assert "checkpoints are safe" in facts


def test_what_a_driver_does_not_tell_is_said_and_never_none(qapp: QApplication) -> None:
    panel = GpuPanel()
    told = sample_of()
    silent = replace(told, temperature_celsius=None, power_watts=None, utilisation_percent=None)
    panel.render_samples([told, silent], [])
    texts = [label.text() for label in panel.findChildren(Label)]
    assert texts.count("not told") == 3
    assert not any("None" in text for text in texts)


def test_a_card_that_runs_cannot_use_says_why_and_nothing_is_judged_by_it(qapp: QApplication) -> None:
    panel = GpuPanel()
    panel.render_estimate(estimate_of(10.0))
    panel.render_samples([replace(sample_of(), unusable="Runs cannot use it: its driver is too old.")], [MEMORY])
    assert panel.fit() is None
    assert any("its driver is too old" in label.text() for label in panel.findChildren(Label))
    panel.render_samples([sample_of()], [MEMORY])
    assert panel.fit() is not None


def test_every_recorded_card_of_the_pictures_is_shown_by_its_name(qapp: QApplication) -> None:
    for samples in recorded_cards().values():
        panel = GpuPanel()
        panel.render_samples(samples, [MEMORY])
        assert any(samples[-1].name in label.whole_text() for label in panel.findChildren(ElidedLabel))
