"""The window as `qlora-studio` opens it, with a part that fails when it is shown; it prints what the window says.

Python starts it with `-m tests.ui.window.failing_window`.
"""

import math
import sys

from PySide6.QtCore import QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QLabel, QWidget

from qlora_studio.ui import app


class _Failing(QWidget):
    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        math.log10(0)


class _Window(app.AppWindow):
    def __init__(self, *, demo: bool = False, opened: str = "") -> None:
        super().__init__(demo=demo, opened=opened)
        self.part = _Failing()
        self.completed.connect(self._show_part)

    def _show_part(self) -> None:
        QTimer.singleShot(50, self.tell_and_close)
        self.part.setParent(self.window)
        self.part.show()

    def tell_and_close(self) -> None:
        """Print every word on the page."""
        print(*(label.text() for label in self.window.current_page().findChildren(QLabel)), sep="\n")
        self.window.close()


if __name__ == "__main__":
    app.AppWindow = _Window  # type: ignore[misc]
    sys.exit(app.main())
