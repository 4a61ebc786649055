"""What a scroll area holds when its height depends on its width, as with every text that is wrapped."""

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget


class ScrolledContent(QWidget):
    """Is as high as its layout needs at its width, and not as high as it would be at its narrowest."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("surface", "clear")

    def minimumSizeHint(self) -> QSize:
        """Leave the height to `heightForWidth` where the layout has one."""
        hint, layout = super().minimumSizeHint(), self.layout()
        return QSize(hint.width(), 0) if layout is not None and layout.hasHeightForWidth() else hint
