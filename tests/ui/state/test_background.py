"""Slow calls beside the event loop: only the newest answer counts, and a call may outlast whoever asked for it."""

import threading
from collections.abc import Callable
from typing import NoReturn

import shiboken6
from PySide6.QtCore import QThreadPool
from PySide6.QtWidgets import QApplication

from qlora_studio.core.errors import StudioError
from qlora_studio.ui.state.background import Background

WaitUntil = Callable[[Callable[[], object]], None]


def test_the_answer_of_a_call_arrives_in_the_windows_thread(qapp: QApplication, wait_until: WaitUntil) -> None:
    background = Background()
    told: list[tuple[int, bool]] = []
    background.answered.connect(lambda answer: told.append((answer, threading.current_thread() is _MAIN)))
    background.ask(lambda one, two: one + two, 2, 3)
    wait_until(lambda: told)
    assert told == [(5, True)]


def test_only_the_newest_answer_counts_and_only_for_who_asked(qapp: QApplication, wait_until: WaitUntil) -> None:
    one, other = Background(), Background()
    gate = threading.Event()
    told: list[tuple[str, str]] = []
    one.answered.connect(lambda answer: told.append(("one", answer)))
    other.answered.connect(lambda answer: told.append(("other", answer)))
    one.ask(lambda: gate.wait(20) and "old")
    one.ask(lambda: "new")
    other.ask(lambda: "theirs")
    wait_until(lambda: len(told) == 2)
    gate.set()
    assert QThreadPool.globalInstance().waitForDone(20_000)
    qapp.processEvents()
    assert sorted(told) == [("one", "new"), ("other", "theirs")]


def test_an_error_arrives_in_words(qapp: QApplication, wait_until: WaitUntil) -> None:
    background = Background()
    told: list[StudioError] = []
    background.failed.connect(told.append)

    def fail() -> NoReturn:
        raise PermissionError("no entry")

    background.ask(fail)
    wait_until(lambda: told)
    assert told[0].message == "no entry."


def test_who_asked_may_be_deleted_while_the_call_is_at_work(qapp: QApplication) -> None:
    """A thread that speaks through an object in the moment of its end brought the whole process down."""
    pool = QThreadPool.globalInstance()
    for _ in range(1000):
        backgrounds = [Background() for _ in range(4)]
        for background in backgrounds:
            background.ask(lambda: [number * number for number in range(200)])
        for background in backgrounds:
            shiboken6.delete(background)
        del backgrounds, background
        qapp.processEvents()
    assert pool.waitForDone(20_000)
    qapp.processEvents()


_MAIN = threading.main_thread()


def test_a_fault_of_our_own_is_an_answer_too(qapp: QApplication, wait_until: WaitUntil) -> None:
    background = Background()
    told: list[StudioError] = []
    background.failed.connect(told.append)
    background.ask(lambda: dict[str, str]()["nothing"])
    wait_until(lambda: told)
    assert "KeyError: 'nothing'" in told[0].message and "Traceback" in told[0].detail
