"""A few words over the foot of the window that go by themselves: what a key did where nothing else shows it."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QWidget

from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Card

_MILLISECONDS = 4000
_ABOVE_FOOT = 48


class Toast(Card):
    """Shows words for four seconds; nothing in it can be pressed, and it takes no click away."""

    def __init__(self, window: QWidget) -> None:
        super().__init__()
        self.setParent(window)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._label = Label("")
        self.add(self._label)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS)
        self._timer.timeout.connect(self.hide)
        self.hide()

    def tell(self, words: str) -> None:
        """Show words."""
        window = self.parentWidget()
        assert window is not None
        self._label.setText(words)
        self.setAccessibleName(words)
        self.show()  # before it is measured: words in what was never shown count for nothing
        self.adjustSize()
        self.move((window.width() - self.width()) // 2, window.height() - self.height() - _ABOVE_FOOT)
        self.raise_()
        self._timer.start()
