"""Both themes can be read by everybody."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget

from qlora_studio.ui.kit.fields import CheckBox, ComboBox, NumberBox, SpinBox
from qlora_studio.ui.kit.fonts import set_text_size
from qlora_studio.ui.kit.scrolling import ScrollArea
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import DARK, LIGHT, Theme, active_theme, apply_theme, finish_theme
from qlora_studio.ui.kit.widgets import Button, Chip, Notice, Rule, StatTile, column
from tests.ui.conftest import WaitUntil

SURFACES = ("background", "panel", "field", "selection", "hover")
TEXT_COLORS = ("text", "muted", "accent", "ok", "warn", "bad")
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)


@THEMES
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("text", TEXT_COLORS)
def test_every_text_colour_reaches_wcag_aa_on_every_surface(theme: Theme, text: str, surface: str) -> None:
    assert contrast(getattr(theme, text), getattr(theme, surface)) >= 4.5


@THEMES
def test_texts_on_accents_and_notices_reach_wcag_aa(theme: Theme) -> None:
    assert contrast(theme.accent_text, theme.accent) >= 4.5
    assert contrast(theme.accent_text, theme.accent_hover) >= 4.5
    for surface in (theme.bad_surface, theme.warn_surface, theme.trained_surface, theme.neighbour_surface):
        assert contrast(theme.text, surface) >= 4.5
    assert contrast(theme.muted, theme.bad_surface) >= 4.5
    assert contrast(theme.muted, theme.warn_surface) >= 4.5
    assert contrast(theme.muted, theme.neighbour_surface) >= 4.5
    assert contrast(theme.muted, theme.track) >= 4.5


@THEMES
def test_the_lines_of_plots_and_the_checked_badge_stand_out_by_three_to_one(theme: Theme) -> None:
    for token in ("weights", "logits", "context", "accent", "ok", "bad"):
        assert contrast(getattr(theme, token), theme.panel) >= 3.0, token


def test_contrast_of_black_and_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#777777") == pytest.approx(1.0)


def test_a_theme_reaches_the_palette_and_the_widgets_that_paint_themselves(qapp: QApplication) -> None:
    apply_theme(qapp, DARK)
    assert active_theme() is DARK
    assert qapp.palette().color(QPalette.ColorRole.Window).name() == DARK.background
    apply_theme(qapp, LIGHT)
    assert active_theme() is LIGHT


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "hidden"])
@pytest.mark.parametrize(("before", "after"), [(LIGHT, DARK), (DARK, LIGHT)], ids=["to dark", "to light"])
def test_after_a_change_each_widget_looks_as_if_it_was_made_in_the_theme(
    qapp: QApplication, before: Theme, after: Theme, hidden: bool
) -> None:
    apply_theme(qapp, before)
    sheet, changed = qapp.styleSheet(), _one_of_each()
    changed.setVisible(not hidden)
    qapp.processEvents()
    apply_theme(qapp, after)
    finish_theme(changed)
    made = _one_of_each()
    made.setVisible(not hidden)
    qapp.processEvents()
    assert changed.grab().toImage() == made.grab().toImage()
    assert qapp.styleSheet() == sheet, "a sheet that is set again dresses every widget anew"
    apply_theme(qapp, LIGHT)


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "hidden"])
def test_what_nobody_asks_for_while_the_theme_changes_follows_by_itself_and_is_painted_again(
    qapp: QApplication, wait_until: WaitUntil, hidden: bool
) -> None:
    changed = _one_of_each()
    changed.show()
    changed.setVisible(not hidden)
    apply_theme(qapp, DARK)
    made = _one_of_each()
    made.setVisible(not hidden)
    wait_until(lambda: changed.grab().toImage() == made.grab().toImage())
    assert changed.updatesEnabled()
    apply_theme(qapp, LIGHT)


def test_what_is_seen_changes_at_once_and_what_is_scrolled_away_by_itself(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    changed = _scrolled()
    apply_theme(qapp, DARK)
    now, made = changed.grab().toImage(), _scrolled()
    assert now == made.grab().toImage()
    for area in (changed, made):
        area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())
    assert made.grab().toImage() != now
    wait_until(lambda: changed.grab().toImage() == made.grab().toImage())
    apply_theme(qapp, LIGHT)


def test_what_is_folded_in_a_part_that_comes_to_the_front_follows_by_itself(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    part, made = QWidget(), QWidget()
    folded = _one_of_each()
    folded.hide()
    column(part).addWidget(folded)
    apply_theme(qapp, DARK)
    finish_theme(part)
    part.show()
    folded.show()
    column(made).addWidget(_one_of_each())
    made.show()
    part.resize(made.size())
    wait_until(lambda: part.grab().toImage() == made.grab().toImage())
    apply_theme(qapp, LIGHT)


def test_what_is_shown_before_its_turn_is_never_seen_in_the_theme_before(qapp: QApplication) -> None:
    def folded() -> tuple[QWidget, ...]:
        page, parts = QWidget(), (Rule(), _one_of_each())
        box = column(page)
        for part in parts:
            box.addWidget(part)
            part.hide()
        page.show()
        return page, *parts

    changed = folded()
    apply_theme(qapp, DARK)
    for part in changed:
        part.show()  # as a line does where the page is scrolled
    made = folded()
    for part in made:
        part.show()
    assert changed[0].grab().toImage() == made[0].grab().toImage()
    apply_theme(qapp, LIGHT)


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "hidden"])
def test_after_a_change_of_size_each_widget_looks_as_if_it_was_made_so(
    qapp: QApplication, wait_until: WaitUntil, hidden: bool
) -> None:
    changed, sheet = _one_of_each(), qapp.styleSheet()
    changed.show()
    changed.setVisible(not hidden)
    small, fonts = changed.grab().toImage(), [widget.font() for widget in changed.findChildren(QWidget)]
    set_text_size("largest")
    apply_theme(qapp, LIGHT)
    made = _one_of_each()
    made.show()
    made.setVisible(not hidden)
    wait_until(lambda: small != changed.grab().toImage() == made.grab().toImage())
    assert qapp.styleSheet() == sheet, "a sheet that is set again dresses every widget anew"
    set_text_size("usual")
    apply_theme(qapp, LIGHT)
    assert [widget.font() for widget in changed.findChildren(QWidget)] == fonts


def _scrolled() -> ScrollArea:
    content = QWidget()
    box = column(content)
    for number in range(4):
        box.addWidget(Button(f"Button {number}"))
        box.addWidget(_one_of_each())
    area = ScrollArea(content)
    area.resize(400, 300)
    area.show()
    return area


def _one_of_each() -> QWidget:
    """A panel with what takes colours from the sheet, in the tones that it has."""
    whole = QWidget()
    whole.setProperty("surface", "panel")
    box = column(whole)
    tones = ("ok", "warn", "bad", "accent", "muted")
    for tone in tones:
        label = Label(tone)
        label.set_tone(tone)
        box.addWidget(label)
        box.addWidget(Chip(tone, tone))
    for kind in ("plain", "primary", "danger", "small", "quiet", "pill"):
        box.addWidget(Button(kind, kind))
    for tone in ("info", "warn", "bad"):
        notice = Notice(tone)
        box.addWidget(notice)
        notice.show_message(tone, "advice")
    checked, tile = CheckBox("checked"), StatTile("tile")
    checked.setChecked(True)
    for widget in (checked, CheckBox("not"), SpinBox(), NumberBox(), ComboBox({"a": "b"}), QLineEdit("text"), tile):
        box.addWidget(widget)
    for each in whole.findChildren(QWidget):
        each.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # which one has it is not the theme's
    whole.resize(400, 900)
    return whole


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio of two `#rrggbb` colours, 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
