"""What tests of the window share: an application without a screen, a pump for its events, Qt's warnings as failures."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Qt's own screen is narrower than that of any desktop.
os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={Path(__file__).with_name('screen.json')}"
os.environ["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/dev/null"  # no test tells a desktop that a run has ended

from PySide6.QtCore import QEvent, QMessageLogContext, Qt, QtMsgType, qInstallMessageHandler
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.qt_types import made_qt_types
from qlora_studio.ui.kit.theme import LIGHT, apply_theme

WaitUntil = Callable[[Callable[[], object]], None]
_HARMLESS = ("This plugin does not support",)


@pytest.fixture(scope="session")
def qapp() -> QApplication:
    """The one application."""
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(["tests"])
        for _ in made_qt_types():
            pass
    apply_theme(app, LIGHT)
    return app


@pytest.fixture(autouse=True)
def _warnings_of_qt_fail(qapp: QApplication) -> Iterator[None]:
    """A test during which Qt complains fails."""
    said: list[str] = []

    def note(kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
        if kind not in (QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg) and not text.startswith(_HARMLESS):
            said.append(text)

    before = qInstallMessageHandler(note)
    yield
    for widget in QApplication.topLevelWidgets():
        if widget.parent() is None:  # a popup of a combo box is its own window, and its parent's to delete
            widget.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.processEvents()
    qInstallMessageHandler(before)
    assert not said, said


@pytest.fixture(autouse=True)
def _no_key_left_pressed(qapp: QApplication) -> Iterator[None]:
    """Ctrl+C by QTest leaves Ctrl pressed for Qt, and the next test's click would add to a selection."""
    yield
    if qapp.keyboardModifiers() != Qt.KeyboardModifier.NoModifier:
        QTest.keyClick(QWidget(), Qt.Key.Key_Control)


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """A test that leaves a thread of Python running fails."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while (left := _lasting(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left


@pytest.fixture
def wait_until(qapp: QApplication) -> WaitUntil:
    """Pump events until something holds; a test that waits half a minute fails."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            qapp.processEvents()
            time.sleep(0.002)

    return wait


def _lasting(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads of Qt's own pool show up as dummies and belong to Qt."""
    return {t for t in threading.enumerate() if t not in before and not isinstance(t, threading._DummyThread)}
