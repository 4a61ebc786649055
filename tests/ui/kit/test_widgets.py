"""Building blocks of pages: a tile's words are never cut, and an empty page's card is no higher than its words."""

import pytest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.layouts import TileGrid
from qlora_studio.ui.kit.text import FactsLabel
from qlora_studio.ui.kit.widgets import Button, EmptyCard, StatTile, column
from tests.ui.conftest import WaitUntil
from tests.ui.states.layout_faults import faults_of

_LONG = "beste 0,949 bei Schritt 600 von 790 insgesamt"


@pytest.mark.parametrize("width", [420, 900])
def test_a_long_word_below_a_figure_is_shown_whole_and_the_tile_does_not_shrink_again(
    qapp: QApplication, wait_until: WaitUntil, width: int
) -> None:
    tiles = [StatTile(title) for title in ("Loss", "Rate", "Time left")]
    page = QWidget()
    box = column(page)
    box.addWidget(TileGrid(tiles, columns=(3,), least=100))
    box.addStretch(1)
    page.resize(width, 400)
    page.show()
    tiles[0].show_value("0.950", "best")
    qapp.processEvents()
    before = tiles[0].height()
    tiles[0].show_value("0.950", _LONG)
    wait_until(lambda: not list(faults_of(page)))
    high = tiles[0].height()
    assert (high > before) == (width == 420)
    tiles[0].show_value("0.951", "best")
    for _ in range(5):
        qapp.processEvents()
    assert tiles[0].height() == high, "it would jump at every evaluation"
    assert {tile.height() for tile in tiles} == {high}


def test_the_card_of_an_empty_page_is_as_high_as_what_it_says(qapp: QApplication) -> None:
    page = QWidget()
    box = column(page)
    card = EmptyCard("No runs yet", "The first one appears here.", Button("Go to Training"))
    box.addWidget(card)
    box.addStretch(0)
    page.resize(600, 800)
    page.show()
    qapp.processEvents()
    assert card.y() == 0 and card.height() < 160


def test_of_facts_that_have_no_room_the_last_are_left_out_whole(qapp: QApplication) -> None:
    whole = "SmolLM2-135M-Instruct · tickets.jsonl, 6,318 rows · effective batch 16"
    facts = FactsLabel(whole)
    widths = [facts.fontMetrics().horizontalAdvance(text) for text in (whole, whole.rpartition(" · ")[0])]
    for width, shown in ((widths[0] + 9, whole), (widths[0] - 9, whole.rpartition(" · ")[0])):
        facts.resize(width, 20)
        facts.show()
        qapp.processEvents()
        assert facts.text() == shown and facts.accessibleName() == whole
    assert "effective batch 16" in facts.toolTip()
    facts.resize(60, 20)
    qapp.processEvents()
    assert facts.text().endswith("…") and facts.text()[:-1] in whole, "of the first one what there is room for"
    facts.close()
