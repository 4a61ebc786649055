"""The pages behind the one at the front cost nothing: neither when they come, nor when something of them changes."""

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page


class _Measured(Page):
    asked = 0

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.label = name, QLabel(name)
        self.body.addWidget(self.label)

    def minimumSizeHint(self) -> QSize:
        self.asked += 1
        return super().minimumSizeHint()


def test_only_the_page_at_the_front_is_measured(qapp: QApplication) -> None:
    window, front, behind = MainWindow(QWidget()), _Measured("chat"), _Measured("runs")
    window.add_page(front)
    window.show_page("chat")
    window.show()
    qapp.processEvents()
    front.asked = 0
    window.take_in(behind)
    window.add_page(behind)
    behind.label.setText("another text,\nwhich is higher")
    front.label.setText("another text,\nwhich is higher")
    qapp.processEvents()
    assert front.asked and not behind.asked
    window.show_page("runs")
    qapp.processEvents()
    assert behind.asked and behind.isVisible() and window.pages.keys() == {"chat", "runs"}
    window.close_now()
