"""The questions that are asked: an answer, and nothing left of the box."""

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget

from qlora_studio.ui.window.dialogs import ask_stop_unsaved
from tests.ui.conftest import WaitUntil


def test_nothing_is_left_of_a_question_that_was_answered(qapp: QApplication, wait_until: WaitUntil) -> None:
    window, boxes = QWidget(), list[QMessageBox]()
    window.show()

    def press(words: str) -> None:
        boxes[:] = window.findChildren(QMessageBox)
        next(button for button in boxes[0].buttons() if button.text().replace("&", "") == words).click()

    for words in ("Stop without saving", "Cancel"):
        QTimer.singleShot(50, window, lambda words=words: press(words))
        assert ask_stop_unsaved(window, "support-bot") == (words != "Cancel")
        assert len(boxes) == 1
        wait_until(lambda: not window.findChildren(QMessageBox))
