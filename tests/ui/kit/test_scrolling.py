"""Scrolled content stays where it is, whatever comes below it; a figure is never cut."""

from PySide6.QtCore import QPoint
from PySide6.QtGui import QImage, QRegion
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.scrolling import ScrollArea
from qlora_studio.ui.kit.text import NumberLabel
from qlora_studio.ui.kit.theme import active_theme


def test_content_is_as_wide_with_a_bar_as_without_one(qapp: QApplication) -> None:
    content = QWidget()
    area = ScrollArea(content)
    area.resize(300, 200)
    area.show()
    widths = []
    for height in (50, 500):
        content.setFixedHeight(height)
        qapp.processEvents()
        widths.append(content.width())
        assert (area.verticalScrollBar().maximum() > 0) == (height > 200)
    assert widths[0] == widths[1] < 300


def test_a_figure_is_painted_whole_where_it_has_little_room(qapp: QApplication) -> None:
    label = NumberLabel("12,300 tok/s")
    label.ensurePolished()
    for width in (200, 90):
        label.resize(width, 30)
        painted = inked_columns(label)
        assert max(painted) < width - 1, "the last letter ends before the edge"
        assert max(painted) > 60, "and is there"


def inked_columns(label: QWidget) -> list[int]:
    picture = QImage(label.size(), QImage.Format.Format_RGB32)
    picture.fill(active_theme().color("panel"))
    label.render(picture, QPoint(), QRegion(), QWidget.RenderFlag.DrawChildren)
    blank = active_theme().color("panel").rgb()
    rows = range(picture.height())
    return [x for x in range(picture.width()) if any(picture.pixel(x, y) != blank for y in rows)]
