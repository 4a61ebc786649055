"""Scrolled areas whose content stays where it is when there is more, or no more, to scroll."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QScrollBar, QWidget

BAR_WIDTH = 10  # pixels of the vertical bar, as the style sheet has it


class ScrollArea(QScrollArea):
    """Holds content as wide as itself. The room of the vertical bar is always kept, and empty where nothing scrolls."""

    def __init__(self, content: QWidget, *, across: bool = True) -> None:
        """`across` allows a horizontal bar where the content cannot be as narrow as the area."""
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBar(_QuietBar())
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        if not across:
            self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what it holds takes the focus; a page without fields needs none
        self.setWidget(content)


def bring_into_view(widget: QWidget) -> None:
    """Scroll every area around a widget so that it is seen."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            parent.ensureWidgetVisible(widget)
        parent = parent.parentWidget()


class _QuietBar(QScrollBar):
    def paintEvent(self, event: QPaintEvent) -> None:
        if self.maximum() > self.minimum():
            super().paintEvent(event)
