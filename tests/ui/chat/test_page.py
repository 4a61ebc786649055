"""The Chat page: one prompt, two models, the same seed; answers are written as they come."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.commands import Ask
from qlora_studio.core.run.events import Failed, PhaseChanged, TextGenerated, WorkerStarted
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.state.run_choice import RunChoice
from tests.ui.conftest import WaitUntil

Told = list[tuple[str, str, list[Ask]]]
RUNS = [
    RunChoice("/runs/a", "first", base="SmolLM2", answering=(("merged", "final"), ("gguf", "final"))),
    RunChoice("/runs/b", "second", base="SmolLM2"),
]


@pytest.fixture
def page(qapp: QApplication) -> ChatPage:
    page = ChatPage()
    page.resize(900, 800)
    page.show()
    page.render_runs(RUNS, "/runs/b")
    return page


@pytest.fixture
def told(page: ChatPage) -> Told:
    told: Told = []
    page.ask_requested.connect(lambda run, checkpoint, asks: told.append((run, checkpoint, asks)))
    return told


def ask(page: ChatPage, text: str) -> None:
    QTest.keyClicks(page.prompt, text)
    QTest.keyClick(page.prompt, Qt.Key.Key_Return)


def answer(page: ChatPage, ask: Ask, *pieces: str) -> None:
    variant = ask.variants[0]
    page.render_events([TextGenerated(request=ask.request, variant=variant, text=piece) for piece in pieces])
    page.render_events(
        [TextGenerated(request=ask.request, variant=variant, text="", done=True, tokens=10, seconds=2.0)]
    )


def test_without_a_run_the_page_says_what_to_do_next(qapp: QApplication) -> None:
    page = ChatPage()
    assert page.go_training.isVisibleTo(page)
    assert not page.prompt.isVisibleTo(page)


@pytest.mark.parametrize("left", [RUNS, RUNS[:1]], ids=["chosen on another page", "the one before was removed"])
def test_below_another_run_nothing_stands_of_the_one_before(page: ChatPage, told: Told, left: list[RunChoice]) -> None:
    ended: list[str] = []
    page.run_requested.connect(ended.append)
    ask(page, "Hi")
    answer(page, told[0][2][0], "Hello")
    page.render_job(reduce(RunState(), Failed(kind=FailureKind.OUT_OF_MEMORY, message="No memory.")))
    page.render_runs(RUNS, "/runs/b")
    assert len(page.turns()) == 1 and page.notice.isVisible()
    page.render_runs(left, "/runs/a")
    assert page.turns() == () and not page.notice.isVisible()
    assert ended == ["/runs/a"], "its model is let go of"


def test_while_the_runs_are_read_nothing_is_said_of_there_being_none(qapp: QApplication) -> None:
    page = ChatPage()
    page.render_runs((), "", reading=True)
    assert not page.go_training.isVisibleTo(page)
    page.render_runs((), "")
    assert page.go_training.isVisibleTo(page)


def test_enter_sends_the_prompt_to_both_models_with_the_same_seed(page: ChatPage, told: Told) -> None:
    page.seed.setValue(7)
    ask(page, "Where is my parcel?")
    ((run, checkpoint, asks),) = told
    assert (run, checkpoint) == ("/runs/b", "best")
    assert [item.variants for item in asks] == [["tuned"], ["base"]]
    assert {item.seed for item in asks} == {7}
    assert all(item.messages == [{"role": "user", "content": "Where is my parcel?"}] for item in asks)
    assert page.prompt.text() == ""
    assert not page.send.isEnabled()


def test_shift_enter_begins_a_line(page: ChatPage, told: Told) -> None:
    QTest.keyClicks(page.prompt, "one")
    QTest.keyClick(page.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(page.prompt, "two")
    assert page.prompt.text() == "one\ntwo"
    assert told == []


def test_pieces_are_written_where_they_belong_and_as_plain_text(page: ChatPage, told: Told) -> None:
    ask(page, "Hi")
    tuned, base = told[0][2]
    answer(page, tuned, "<b>Ahoy", "</b>!")
    shown = page.turns()[0].answers
    assert shown["tuned"].label.text() == "<b>Ahoy</b>!"
    assert shown["tuned"].label.textFormat() == Qt.TextFormat.PlainText
    assert shown["base"].text() == ""
    answer(page, base, "Hello.")
    assert shown["base"].label.text() == "Hello."
    assert page.send.isEnabled()


@pytest.mark.parametrize(
    ("way", "words"),
    [("4bit", "in 4 bit, 16 bit does not fit"), ("llama_cpp", "by llama.cpp"), ("of_later", "of_later")],
)
def test_the_bubble_says_how_an_answer_was_computed_where_not_as_usual(
    page: ChatPage, told: Told, way: str, words: str
) -> None:
    ask(page, "Hi")
    for item, told_way in zip(told[0][2], (way, ""), strict=True):
        page.render_events(
            [TextGenerated(request=item.request, variant=item.variants[0], text="A", done=True, way=told_way)]
        )
    shown = page.turns()[0].answers
    labels = {
        name: [label.text() for label in card.findChildren(QLabel) if label.isVisibleTo(card)]
        for name, card in shown.items()
    }
    assert words in labels["tuned"]
    assert words not in labels["base"]


def test_each_model_goes_on_from_its_own_answers(page: ChatPage, told: Told) -> None:
    ask(page, "Hi")
    for item, text in zip(told[0][2], ("Ahoy!", "Hello."), strict=True):
        answer(page, item, text)
    ask(page, "And now?")
    tuned, base = told[1][2]
    assert [message["content"] for message in tuned.messages] == ["Hi", "Ahoy!", "And now?"]
    assert [message["content"] for message in base.messages] == ["Hi", "Hello.", "And now?"]


def test_a_second_prompt_waits_for_the_answers(page: ChatPage, told: Told) -> None:
    ask(page, "Hi")
    ask(page, "Are you there?")
    assert len(told) == 1
    assert page.prompt.text() == "Are you there?"


def test_only_the_model_that_is_wanted_is_asked(page: ChatPage, told: Told) -> None:
    page.variants["base"].click()
    ask(page, "Hi")
    assert [item.variants for item in told[0][2]] == [["tuned"]]


def test_what_was_exported_answers_beside_the_others_and_what_was_not_cannot_be_asked(
    page: ChatPage, told: Told
) -> None:
    assert not page.variants["merged"].isEnabled()
    assert "Export a GGUF" in page.variants["gguf"].toolTip()
    page.render_runs(RUNS, "/runs/a")
    for name in ("merged", "gguf"):
        page.variants[name].click()
    ask(page, "Hi")
    assert [item.variants for item in told[0][2]] == [["tuned"], ["base"], ["merged"], ["gguf"]]
    assert len({item.seed for item in told[0][2]}) == 1
    answer(page, told[0][2][3], "Ahoy")
    assert page.turns()[0].answers["gguf"].label.text() == "Ahoy"


def test_answers_end_where_they_are_at_once_and_another_prompt_can_be_sent(
    page: ChatPage, told: Told, wait_until: WaitUntil
) -> None:
    ended: list[bool] = []
    page.end_requested.connect(lambda: ended.append(True))
    ask(page, "Hello")
    (_, _, (first, second)) = told[0]
    page.render_events([TextGenerated(request=first.request, variant=first.variants[0], text="Hi there")])
    assert not page.send.isVisible()
    QTest.mouseClick(page.end, Qt.MouseButton.LeftButton)
    late = [TextGenerated(request=item.request, variant=item.variants[0], text=" late") for item in (first, second)]
    page.render_events(late)
    shown = [answer.label.text() for answer in page.turns()[0].answers.values()]
    assert shown == ["Hi there\n(it ends here)", "(no answer)"] and ended == [True]
    assert page.send.isVisible() and not page.end.isVisible()
    ask(page, "Again")
    assert len(told) == 2
    page.activateWindow()
    wait_until(page.isActiveWindow)
    QTest.keyClick(page.prompt, Qt.Key.Key_Escape)
    assert len(ended) == 2


def test_a_new_conversation_and_another_run_begin_with_nothing(page: ChatPage, told: Told) -> None:
    ask(page, "Hi")
    page.again.click()
    assert page.turns() == ()
    answer(page, told[0][2][0], "too late")
    assert page.turns() == ()
    ask(page, "Hi again")
    chosen: list[str] = []
    page.run_requested.connect(chosen.append)
    page.run.setCurrentIndex(0)
    page.run.activated.emit(0)
    assert chosen == ["/runs/a"]
    assert page.turns() == ()


def test_the_state_of_the_model_is_told_and_its_memory_can_be_freed(page: ChatPage) -> None:
    asked: list[bool] = []
    page.stop_requested.connect(lambda: asked.append(True))
    state = reduce(RunState(), WorkerStarted(job="chat", studio="0", pid=1))
    page.render_job(state)
    assert page._state.text().startswith("Loading the model")
    state = reduce(state, PhaseChanged(phase="ready"))
    page.render_job(state)
    assert page._state.text() == "The model is loaded."
    page.stop.click()
    assert asked == [True]


def test_a_model_that_cannot_be_loaded_is_said_in_words_and_another_prompt_can_be_sent(
    page: ChatPage, told: Told
) -> None:
    ask(page, "Hi")
    page.render_events([TextGenerated(request=told[0][2][0].request, variant="tuned", text="Aho")])
    failed = Failed(kind=FailureKind.DAMAGED, message="The adapter is damaged.", advice="Choose a checkpoint.")
    page.render_job(reduce(reduce(RunState(), WorkerStarted(job="chat", studio="0", pid=1)), failed))
    assert page.notice.message.text() == "The adapter is damaged."
    assert page.send.isEnabled()
    shown = page.turns()[0].answers
    assert (shown["tuned"].label.text(), shown["base"].label.text()) == ("Aho\n(it ends here)", "(no answer)")
