"""Where the window stands: as it was, as far as the screens of now have room for it."""

from collections.abc import Sequence

from PySide6.QtCore import QRect
from PySide6.QtWidgets import QWidget

from qlora_studio.storage.session import Place


def place_of(window: QWidget) -> Place:
    """Return where a window stands; of one that fills the screen, where it would stand else."""
    area = window.normalGeometry() if window.isMaximized() or window.isFullScreen() else window.geometry()
    return Place(
        left=area.x(),
        top=area.y(),
        width=max(1, area.width()),
        height=max(1, area.height()),
        maximized=window.isMaximized(),
    )


def area_within(place: Place, screens: Sequence[QRect]) -> QRect:
    """Return the area of a window, moved and cut so that all of it lies on the screen that has most of it."""
    area = QRect(place.left, place.top, place.width, place.height)
    screen = max(screens, key=lambda other: _common(area, other))
    width, height = min(area.width(), screen.width()), min(area.height(), screen.height())
    left = min(max(area.x(), screen.x()), screen.x() + screen.width() - width)
    top = min(max(area.y(), screen.y()), screen.y() + screen.height() - height)
    return QRect(left, top, width, height)


def _common(area: QRect, screen: QRect) -> int:
    both = area.intersected(screen)
    return both.width() * both.height()
