"""Plots are looked into with mouse and keyboard: drag, wheel, double-click, crosshair; several go together."""

import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.ui.curves.curve import Curve, Mark, Plot, look
from qlora_studio.ui.curves.linked_plots import LinkedPlots, png_bytes
from qlora_studio.ui.curves.plot import CurvePlot
from qlora_studio.ui.kit.theme import active_theme

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def _loss(steps: int = 100, **told: object) -> Plot:
    x = np.arange(1.0, steps + 1)
    held_out = np.array([0.0, 40.0])
    curves = (Curve("train", x, 3 - x / 50), Curve("evaluation", held_out, np.array([3.5, 2.5]), "logits", rings=True))
    fields = {"title": "Loss", "curves": curves, "end": 200.0, **told}
    return Plot(**fields)  # type: ignore[arg-type]


def _rate(steps: int = 100) -> Plot:
    x = np.arange(1.0, steps + 1)
    return Plot("Learning rate", (Curve("learning rate", x, 1e-4 * x),), end=200.0)


@pytest.fixture
def plots(qapp: QApplication) -> Iterator[LinkedPlots]:
    """Two plots on the screen."""
    widget = LinkedPlots("Curves")
    widget.resize(700, 300)
    widget.show_plots((_loss(), _rate()))
    widget.show()
    QTest.qWaitForWindowExposed(widget)
    yield widget
    widget.close()


def _at(plot: CurvePlot, x: float, y_share: float = 0.5) -> QPoint:
    area = plot.frame().area
    return QPoint(round(plot.frame().left_of(x)), round(area.top() + y_share * area.height()))


def _drag(plot: CurvePlot, start: QPoint, end: QPoint) -> None:
    QTest.mousePress(plot, _LEFT, _NONE, start)
    QTest.mouseMove(plot, end)
    QTest.mouseRelease(plot, _LEFT, _NONE, end)


def _turn_wheel(plot: CurvePlot, place: QPoint, notches: int = 1) -> bool:
    """Turn the wheel and return whether the plot took it."""
    where = QPointF(place)
    angle, phase = QPoint(0, 120 * notches), Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(where, plot.mapToGlobal(where), QPoint(), angle, Qt.MouseButton.NoButton, _NONE, phase, False)
    QApplication.sendEvent(plot, event)
    return event.isAccepted()


def test_all_is_shown_as_it_comes_until_it_is_zoomed(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    assert plots.is_following()
    assert first.frame().x == (0.0, 200.0)
    plots.show_plots((_loss(300), _rate(300)))
    assert first.frame().x == second.frame().x == (0.0, 300.0)


def test_dragging_across_zooms_every_plot_to_what_was_dragged_over(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    _drag(first, _at(first, 80), _at(first, 40))
    low, high = first.frame().x
    assert (low, high) == pytest.approx((40, 80), abs=1.5)
    assert second.frame().x == first.frame().x
    assert not plots.is_following()
    plots.show_plots((_loss(300), _rate(300)))
    assert first.frame().x == (low, high), "what comes must not move what is looked at"
    bottom, top = second.frame().y
    assert 35e-4 < bottom < 41e-4 and 79e-4 < top < 85e-4, "the height fits what is seen"


def test_a_drag_up_and_down_zooms_the_height_of_that_plot_alone(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    before, top, bottom = second.frame().y, _at(first, 50, 0.25), _at(first, 52, 0.75)
    wanted = first.frame().y_at(bottom.y()), first.frame().y_at(top.y())
    _drag(first, top, bottom)
    assert first.frame().y == pytest.approx(wanted)
    assert first.frame().x == (0.0, 200.0)
    assert second.frame().y == before


def test_a_double_click_shows_all_again_and_follows(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    _drag(first, _at(first, 40, 0.2), _at(first, 80, 0.8))
    QTest.mouseDClick(second, _LEFT, _NONE, _at(second, 60))
    assert plots.is_following()
    assert first.frame().x == second.frame().x == (0.0, 200.0)


def test_the_wheel_zooms_on_an_axis_and_scrolls_the_page_elsewhere(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    area = first.frame().area
    assert not _turn_wheel(first, _at(first, 100))
    assert plots.is_following()
    assert _turn_wheel(first, QPoint(_at(first, 100).x(), round(area.bottom()) + 8))
    low, high = first.frame().x
    assert (low, high) == pytest.approx((20, 180), abs=1)
    before = first.frame().y
    assert _turn_wheel(first, QPoint(round(area.left()) - 10, round(area.center().y())), -1)
    assert first.frame().y[1] - first.frame().y[0] > before[1] - before[0]
    assert _turn_wheel(first, QPoint(_at(first, 100).x(), round(area.bottom()) + 8), -9)
    assert first.frame().x == (0.0, 200.0), "what is all of it follows again"


def test_no_zoom_goes_beyond_two_steps_where_the_axis_would_have_no_numbers(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    for _ in range(60):
        _turn_wheel(first, QPoint(_at(first, 50).x(), round(first.frame().area.bottom()) + 8))
    low, high = first.frame().x
    assert high - low == pytest.approx(2)


def test_the_crosshair_reads_every_curve_of_every_plot_at_the_nearest_step(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    QTest.mouseMove(first, _at(first, 50))
    told, other = first.reading(), second.reading()
    assert told is not None and other is not None
    assert told.x == other.x and abs(told.x - 50) <= 1
    step = int(told.x)
    assert told.place == (f"step {step}",)
    assert [(value.name, value.text) for value in told.values] == [
        ("train", f"{3 - step / 50:.3f}"),
        ("evaluation, step 40", "2.500"),
    ]
    assert [value.name for value in other.values] == ["learning rate"]
    QTest.mouseMove(first, QPoint(2, 2))
    assert first.reading() is None and second.reading() is None


def test_a_value_that_a_logarithmic_axis_has_no_place_for_gets_no_dot_ring_or_mark_there(plots: LinkedPlots) -> None:
    x, y = np.array([0.0, 40.0, 80.0]), np.array([0.0, 1e-4, 2e-4])
    curves = (Curve("rate", x, y), Curve("held out", x, np.array([np.nan, 1e-4, 1e-4]), "logits", rings=True))
    mark = Mark(0, "Lowered.", "diamond", y=0.0)
    plots.show_plots((Plot("Rate", curves, end=80.0, log=True, marks=(mark,)), _rate()))
    first, _ = plots.plots()
    QTest.mouseMove(first, _at(first, 0))
    first.grab()
    assert first.reading() is not None  # what Qt says of a place that is NaN fails every test


def test_marks_are_told_with_their_words_near_the_pointer(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    marks = (Mark(30, "Out of memory."), Mark(90, "Saved.", "triangle"))
    plots.show_plots((_loss(marks=marks), _rate()))
    for x, words in ((30, ("Out of memory.",)), (60, ()), (90, ("Saved.",))):
        QTest.mouseMove(first, _at(first, x))
        told = first.reading()
        assert told is not None and told.words == words


def test_keys_move_the_crosshair_zoom_around_it_and_show_all(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    plots.activateWindow()
    first.setFocus()
    QTest.keyClick(first, Qt.Key.Key_Right)
    for key, shift, x in (
        (Qt.Key.Key_Home, False, 1),
        (Qt.Key.Key_Right, False, 2),
        (Qt.Key.Key_Right, True, 12),
        (Qt.Key.Key_Left, False, 11),
        (Qt.Key.Key_End, False, 100),
    ):
        QTest.keyClick(first, key, Qt.KeyboardModifier.ShiftModifier if shift else _NONE)
        told = first.reading()
        assert told is not None and told.x == x
    assert "step 100; train 1.000; evaluation, step 40 2.500" in first.accessibleDescription()
    QTest.keyClick(first, Qt.Key.Key_Plus)
    assert second.frame().x[1] - second.frame().x[0] == pytest.approx(160)
    QTest.keyClick(first, Qt.Key.Key_0)
    assert plots.is_following()


def _colors(image: QImage) -> set[str]:
    return {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}


def test_one_point_is_drawn_and_no_point_leaves_no_axis(qapp: QApplication) -> None:
    plot = CurvePlot("One")
    plot.resize(200, 140)
    theme = active_theme()
    blue, line = theme.weights, theme.control_line
    plot.show_plot(Plot("", (Curve("train", np.array([1.0]), np.array([2.0])),), end=10))
    assert {blue, line} <= _colors(plot.grab().toImage())
    plot.show_plot(Plot("", (Curve("train", np.array([1.0]), np.array([np.nan])),), nothing=""))
    assert not {blue, line} & _colors(plot.grab().toImage())


def _drawn(plot: CurvePlot) -> set[tuple[int, int]]:
    """Return where the picture of a plot is blue as its curve, from the corner of its axes."""
    image, area = plot.grab().toImage(), plot.frame().area.toRect()
    places = ((x, y) for x in range(image.width()) for y in range(image.height()))
    colors = {place: image.pixelColor(*place) for place in places}
    blue = {place for place, color in colors.items() if color.blue() - color.red() > 90}
    return {(x - area.left(), y - area.top()) for x, y in blue}


def _alone(x: Floats, y: Floats) -> CurvePlot:
    plot = CurvePlot("One")
    plot.resize(300, 200)
    plot.show_plot(Plot("", (Curve("train", x, y),), end=100))
    return plot


def test_a_curve_reaches_the_edges_of_what_is_zoomed_to_and_goes_no_further(qapp: QApplication) -> None:
    plot = _alone(np.array([0.0, 100.0]), np.array([0.0, 100.0]))
    area = plot.frame().area
    _drag(plot, _at(plot, 40, 0.4), _at(plot, 60, 0.6))
    places = _drawn(plot)
    assert max(x for x, _ in places) == pytest.approx(area.width(), abs=2)
    assert max(y for _, y in places) == pytest.approx(area.height(), abs=2)
    assert all(0 <= x <= area.width() and 0 <= y <= area.height() for x, y in places)


def test_a_gap_stays_a_gap_and_a_value_between_gaps_is_a_dot(qapp: QApplication) -> None:
    y = np.full(101, 1.0)
    y[40:61] = np.nan
    y[50] = 1.0
    plot = _alone(np.arange(101.0), y)
    columns = {x for x, _ in _drawn(plot)}
    seen = [round(plot.frame().left_of(x) - plot.frame().area.left()) in columns for x in (30, 45, 50, 55, 70)]
    assert seen == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("low", "high", "log", "numbers"),
    [
        (0.0, 900_000.0, False, {"0", "200,000", "400,000", "600,000", "800,000"}),
        (1.0000001, 1.0000002, False, {"1.00000010", "1.00000015", "1.00000020"}),
        (2.0, 2.001, True, {"1.98", "2", "2.02", "2.04"}),
        (0.001, 50.0, True, {"0.001", "0.01", "0.1", "1", "10"}),
    ],
)
def test_the_numbers_of_an_axis_are_drawn_however_long_they_are(
    plots: LinkedPlots, low: float, high: float, log: bool, numbers: set[str]
) -> None:
    plots.show_plots((Plot("Loss", (Curve("train", np.array([0.5, 9.5]), np.array([low, high])),), log=log),))
    texts = {element.text for element in _elements(plots.drawing("")) if element.tag.endswith("text")}
    assert numbers <= {(text or "").strip() for text in texts}


def test_a_drawing_cuts_its_curves_at_the_axes(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    _drag(first, _at(first, 40, 0.4), _at(first, 80, 0.6))
    elements = _elements(plots.drawing(""))
    blue = [element for element in elements if element.get("stroke") == active_theme().weights and len(element)]
    around = {element: parent for parent in elements for element in parent}
    cuts = {clip for element in blue if (clip := around[element].get("clip-path"))}
    shapes = {f"url(#{element.get('id')})": element[0].get("d", "") for element in elements if element.get("id")}
    corners = [[float(number) for number in re.findall(r"[-\d.]+", shapes[cut])] for cut in cuts]
    sizes = [(across - left, down - top) for left, top, across, _, _, down, *_ in corners]
    areas = [(plot.frame().area.width(), plot.frame().area.height()) for plot in plots.plots()]
    assert sorted(sizes) == [pytest.approx(area, abs=1) for area in sorted(areas)]


def _elements(drawing: bytes) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing).iter())


def test_a_picture_and_a_drawing_show_the_plots_with_their_title(plots: LinkedPlots) -> None:
    image = QImage.fromData(png_bytes(plots.picture("my run <b>")))
    assert image.width() >= 2 * plots.width()
    assert active_theme().weights in _colors(image.copy(0, 0, image.width() // 2, image.height()))
    drawing = plots.drawing("my run <b>").decode()
    assert "my run &lt;b&gt;" in drawing
    assert drawing.count(active_theme().weights) >= 2 and "Learning rate" in drawing


def test_many_curves_differ_in_colour_and_line_and_neighbours_in_both() -> None:
    looks = [look(index) for index in range(28)]
    assert len(set(looks)) == 28
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in pairwise(looks))


def _drag_along(plot: CurvePlot, start: QPoint, end: QPoint, button: Qt.MouseButton = _LEFT) -> None:
    keys = Qt.KeyboardModifier.ShiftModifier if button == _LEFT else _NONE
    QTest.mousePress(plot, button, keys, start)
    QTest.mouseMove(plot, end)
    QTest.mouseRelease(plot, button, keys, end)


@pytest.mark.parametrize("button", [_LEFT, Qt.MouseButton.MiddleButton])
def test_what_is_zoomed_to_is_dragged_along_with_shift_or_the_middle_button(
    plots: LinkedPlots, button: Qt.MouseButton
) -> None:
    first, second = plots.plots()
    _drag(first, _at(first, 40), _at(first, 80))
    low, high = first.frame().x
    _drag_along(first, _at(first, 50), _at(first, 60), button)
    assert first.frame().x == pytest.approx((low - 10, high - 10), abs=1), "what was under the hand stays there"
    assert second.frame().x == first.frame().x
    _drag_along(first, _at(first, 50), _at(first, 55) + QPoint(2000, 0), button)
    assert first.frame().x == pytest.approx((0, high - low)), "and not beyond the beginning"
    assert not plots.is_following()


def test_a_height_that_was_zoomed_to_is_dragged_along_and_a_whole_curve_stays(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    whole = first.frame()
    _drag_along(first, _at(first, 50), _at(first, 90))
    assert plots.is_following() and first.frame() == whole
    _drag(first, _at(first, 50, 0.25), _at(first, 52, 0.75))
    bottom, top = first.frame().y
    _drag_along(first, _at(first, 50, 0.5), _at(first, 50, 0.75))
    assert first.frame().y == pytest.approx((bottom + (top - bottom) / 4, top + (top - bottom) / 4), abs=0.05)
    assert first.frame().x == (0.0, 200.0)


def test_the_crosshair_of_the_keyboard_takes_along_what_is_zoomed_to(plots: LinkedPlots) -> None:
    first, second = plots.plots()
    _drag(first, _at(first, 40), _at(first, 80))
    plots.activateWindow()
    first.setFocus()
    for key in (Qt.Key.Key_Left, Qt.Key.Key_End):
        QTest.keyClick(first, key)
    assert first.frame().x[1] == second.frame().x[1] == 100


def _entry(plot: CurvePlot, name: str) -> QPoint:
    return plot._legend()[name].center().toPoint()


def test_a_click_on_a_name_of_the_legend_hides_its_curve_and_another_one_shows_it(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    assert active_theme().weights in _colors(first.grab(first.frame().area.toRect()).toImage())
    QTest.mouseClick(first, _LEFT, _NONE, _entry(first, "train"))
    colors = _colors(first.grab(first.frame().area.toRect()).toImage())
    assert active_theme().weights not in colors and active_theme().logits in colors
    assert first.frame().y[0] > 2, "the height fits what is left"
    assert "train is hidden" in first.accessibleDescription()
    QTest.mouseMove(first, _at(first, 40))
    told = first.reading()
    assert told is not None and [value.name for value in told.values] == ["evaluation"]
    plots.show_plots((_loss(150), _rate(150)))
    assert [curve.name for curve in first.plot().shown] == ["evaluation"], "what comes brings nothing back"
    QTest.mouseClick(first, _LEFT, _NONE, _entry(first, "train"))
    assert [curve.name for curve in first.plot().shown] == ["train", "evaluation"]


def test_keys_go_through_the_legend_and_space_hides_and_shows(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    plots.activateWindow()
    first.setFocus()
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Space):
        QTest.keyClick(first, key)
    assert first.plot().hidden == {"evaluation"}
    assert first.accessibleDescription().startswith("evaluation is hidden: Space shows it.")
    QTest.keyClick(first, Qt.Key.Key_Space)
    assert not first.plot().hidden
    QTest.keyClick(first, Qt.Key.Key_Up)
    QTest.keyClick(first, Qt.Key.Key_Space)
    assert first.plot().hidden == {"train"}


def test_the_one_curve_that_is_left_is_shown_whatever_was_hidden(plots: LinkedPlots) -> None:
    first, _ = plots.plots()
    QTest.mouseClick(first, _LEFT, _NONE, _entry(first, "train"))
    plots.show_plots((Plot("Loss", _loss().curves[:1]),))
    assert [curve.name for curve in first.plot().shown] == ["train"], "it has no entry to bring it back by"


def test_beside_the_curves_a_tooltip_says_what_can_be_done_and_over_them_it_is_not_in_the_way(
    plots: LinkedPlots,
) -> None:
    first, _ = plots.plots()
    QTest.mouseMove(first, QPoint(5, 100))
    assert "Shift" in first.toolTip() and "legend" in first.toolTip()
    QTest.mouseMove(first, _at(first, 40))
    assert first.toolTip() == ""


def test_long_plots_are_drawn_in_turns_of_their_own(qapp: QApplication) -> None:
    widget, x = LinkedPlots("Curves"), np.arange(200_000.0)
    noise = np.random.default_rng(0).normal(size=(8, len(x)))
    widget.resize(900, 600)
    drawn: list[int] = []
    widget.show()
    looks = [look(index) for index in range(4)]
    widget.show_plots(
        [
            Plot(str(plot), tuple(Curve(str(n), x, noise[n], *looks[n], smooth=noise[n + 4]) for n in range(4)))
            for plot in range(5)
        ]
    )
    while sum(drawn) < 5:
        before = {plot for plot in widget.plots() if not plot._is_stale}
        qapp.processEvents()
        drawn.append(len({plot for plot in widget.plots() if not plot._is_stale} - before))
    widget.close()
    assert max(drawn) < 4 and all(not plot._is_stale for plot in widget.plots()), drawn


def test_points_that_come_are_drawn_in_a_turn_of_their_own_and_at_once_for_who_looks_before(qapp: QApplication) -> None:
    plot, drawn = CurvePlot("Loss"), CurvePlot("Loss")
    for each in (plot, drawn):
        each.resize(500, 240)
        each.show_plot(_loss(10))
        each.show()
        qapp.processEvents()
    before = plot.grab().toImage()
    plot.show_plot(_loss(90))
    drawn.show_plot(_loss(90))
    at_once = drawn.grab().toImage()
    for _ in range(3):
        qapp.processEvents()
    assert before != plot.grab().toImage() == at_once
