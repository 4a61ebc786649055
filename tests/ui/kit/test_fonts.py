"""The window's text: the font that ships with the program, figures that line up, and the size that the user chose."""

from collections.abc import Iterator

import pytest
from PySide6.QtGui import QFont, QFontInfo, QFontMetricsF
from PySide6.QtWidgets import QApplication

from qlora_studio.storage.resources import resource
from qlora_studio.ui.kit.fonts import set_text_size
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import LIGHT, apply_theme, sans_font
from qlora_studio.ui.kit.widgets import Button

WEIGHTS = (QFont.Weight.Normal, QFont.Weight.Medium, QFont.Weight.DemiBold, QFont.Weight.Bold)


@pytest.fixture
def usual_size_again(qapp: QApplication) -> Iterator[None]:
    yield
    set_text_size("usual")
    apply_theme(qapp, LIGHT)


def test_the_font_that_ships_is_the_one_that_is_used(qapp: QApplication) -> None:
    assert QFontInfo(sans_font()).family() == "Inter"
    assert (resource("fonts") / "OFL.txt").read_text().count("SIL OPEN FONT LICENSE Version 1.1") == 1


def test_every_weight_is_a_cut_of_its_own(qapp: QApplication) -> None:
    widths = [QFontMetricsF(sans_font(40, weight)).horizontalAdvance("Hamburgefons") for weight in WEIGHTS]
    assert widths == sorted(set(widths)), "a weight that is not there would be as wide as the one it is made from"


@pytest.mark.parametrize("weight", WEIGHTS)
def test_every_figure_is_as_wide_as_the_others(qapp: QApplication, weight: QFont.Weight) -> None:
    metrics = QFontMetricsF(sans_font(13, weight))
    widths = [metrics.horizontalAdvance(figure * 10) for figure in "0123456789"]
    assert max(widths) - min(widths) < 0.5, "ten figures in a column are less than half a pixel apart"


def test_figures_line_up_where_the_style_sheet_gives_the_size(qapp: QApplication) -> None:
    label = Label("", "number")
    label.ensurePolished()
    assert label.font().pixelSize() == 18
    assert label.fontMetrics().horizontalAdvance("1" * 9) == label.fontMetrics().horizontalAdvance("8" * 9)


@pytest.mark.usefixtures("usual_size_again")
def test_a_tone_or_a_kind_that_comes_after_another_size_leaves_the_size(qapp: QApplication) -> None:
    label, button = Label("7", "number"), Button("press", "small")
    for widget in (label, button):
        widget.ensurePolished()
    set_text_size("largest")
    apply_theme(qapp, LIGHT)
    label.set_tone("bad")
    assert label.font().pixelSize() == 24
    button.set_kind("primary")
    assert (button.font().pixelSize(), button.font().weight()) == (17, QFont.Weight.Medium)


@pytest.mark.usefixtures("usual_size_again")
def test_the_chosen_size_reaches_what_is_there_and_what_comes(qapp: QApplication) -> None:
    there = Label("", "number")
    there.ensurePolished()
    set_text_size("largest")
    apply_theme(qapp, LIGHT)
    comes = Label("", "body")
    comes.ensurePolished()
    assert (there.font().pixelSize(), comes.font().pixelSize(), sans_font(11).pixelSize()) == (24, 17, 14)
