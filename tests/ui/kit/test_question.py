"""A question has one button that stands out, and neither Esc nor Enter does more than is asked for."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.question import Question
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.window import dialogs

_ANSWERS = (("Keep training", "primary"), ("Stop and save", "plain"))


def _question(*, usual: int | None = None) -> Question:
    return Question(None, "Close", "<b>What</b> now?", "", _ANSWERS, usual=usual)


def _asked(question: Question, key: Qt.Key) -> int | None:
    QTimer.singleShot(0, lambda: QTest.keyClick(question, key))
    return question.ask()


def test_the_buttons_of_a_question_have_letters_of_their_own_and_one_stands_out(qapp: QApplication) -> None:
    question = _question()
    question.show()
    buttons = question.findChildren(Button)
    letters = [button.shortcut().toString() for button in buttons]
    question.close()
    assert len(set(letters)) == 3 and all(letter.startswith("Alt+") for letter in letters)
    assert [button.text() for button in buttons if button.property("kind") == "primary"] == ["Keep training"]


def test_enter_gives_the_usual_answer_and_esc_leaves_all_as_it_is(qapp: QApplication) -> None:
    assert _asked(_question(usual=0), Qt.Key.Key_Return) == 0
    assert _asked(_question(usual=0), Qt.Key.Key_Escape) is None
    assert _asked(_question(), Qt.Key.Key_Return) is None


def test_what_ends_or_loses_something_is_no_main_button(qapp: QApplication) -> None:
    window = QWidget()
    kinds: list[list[object]] = []

    def look() -> None:
        question = QApplication.activeModalWidget()
        assert isinstance(question, Question)
        kinds.append([button.property("kind") for button in question.findChildren(Button)])
        QTest.keyClick(question, Qt.Key.Key_Escape)

    for ask in (dialogs.ask_end_worker, dialogs.ask_stop_unsaved):
        QTimer.singleShot(0, look)
        assert not ask(window, "support-bot")
    QTimer.singleShot(0, look)
    assert not dialogs.ask_trash(window, "Move it?", "")
    assert [sorted(map(str, found)) for found in kinds] == [["danger", "plain"]] * 3
    window.close()
