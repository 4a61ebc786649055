"""The desktop's notifications are asked over a real D-Bus, by a message that its own library reads."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtDBus import QDBusConnection, QDBusError, QDBusMessage, QDBusVirtualObject
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from qlora_studio.storage.session import Session
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.kit.desktop.bus import notify_desktop
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.notification import EndingNotifier

WaitUntil = Callable[[Callable[[], object]], None]
_NAME, _PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"


class _Desktop(QDBusVirtualObject):
    """Takes notifications as a desktop does, or refuses them."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[QDBusMessage] = []
        self.refuses = False

    def introspect(self, path: str) -> str:
        return ""

    def handleMessage(self, message: QDBusMessage, connection: QDBusConnection) -> bool:
        self.told.append(QDBusMessage(message))
        refusal = message.createErrorReply(QDBusError.ErrorType.Failed, "not now")
        connection.send(refusal if self.refuses else message.createReply([1]))
        return True


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch, qapp: object) -> Iterator[_Desktop]:
    """A session bus of its own, with a desktop on it."""
    program = shutil.which("dbus-daemon")
    if program is None:
        pytest.skip("there is no dbus-daemon here")
    command = [program, "--session", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        desktop = _Desktop()
        connection = QDBusConnection.connectToBus(address, "desktop")
        assert connection.registerService(_NAME) and connection.registerVirtualObject(_PATH, desktop)
        yield desktop
        QDBusConnection.disconnectFromBus("desktop")
        daemon.terminate()


def _told(wait_until: WaitUntil, title: str, text: str) -> bool:
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(notify_desktop("qlora-studio", title, text)))
    asking.start()
    wait_until(lambda: answers)
    asking.join()
    return answers[0]


def test_a_desktop_is_told_in_the_form_that_its_interface_wants(desktop: _Desktop, wait_until: WaitUntil) -> None:
    assert _told(wait_until, "größer <b>", "Finished & saved")
    (message,) = desktop.told
    assert (message.member(), message.interface(), message.signature()) == ("Notify", _NAME, "susssasa{sv}i")
    program, replaces, icon, title, text, actions, _hints, seconds = message.arguments()
    assert (program, replaces, icon, actions, seconds) == ("qlora-studio", 0, "", [], -1)
    assert (title, text) == ("größer <b>", "Finished &amp; saved"), "a title is plain text, the text below is markup"


def test_a_desktop_that_refuses_is_one_that_did_not_take_it(desktop: _Desktop, wait_until: WaitUntil) -> None:
    desktop.refuses = True
    assert not _told(wait_until, "run", "Finished")
    assert len(desktop.told) == 1


def test_an_ending_is_told_where_the_window_is_not_in_front_and_the_settings_want_it(
    desktop: _Desktop, wait_until: WaitUntil
) -> None:
    studio, window = Studio(Settings(tell_endings=False), Session()), QWidget()
    EndingNotifier(studio, window)
    for text, wanted in (("not wanted", False), ("wanted", True)):
        studio.change_settings(tell_endings=wanted)
        studio.queue.ended.emit(text)
    wait_until(lambda: desktop.told)
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    studio.queue.ended.emit("seen anyway")
    QTest.qWait(100)
    studio.end()
    window.close()
    assert [message.arguments()[3:5] for message in desktop.told] == [["QLoRA Studio", "wanted"]]


def test_no_bus_and_one_that_hangs_up_are_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "tcp:host=localhost,port=1")
    assert not notify_desktop("qlora-studio", "run", "Finished")
    place = tmp_path / "bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={place},guid=0")
    assert not notify_desktop("qlora-studio", "run", "Finished")
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(place))
        bus.listen()
        hanging_up = threading.Thread(target=lambda: bus.accept()[0].close())
        hanging_up.start()
        assert not notify_desktop("qlora-studio", "run", "Finished")
        hanging_up.join()
