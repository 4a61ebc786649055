"""The switch that keeps everything off the network, as it stands among the settings."""

from typing import Any

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.ui.settings.page import SettingsPage


def test_a_click_on_offline_asks_for_it_and_one_more_takes_it_back(qapp: QApplication) -> None:
    page, asked = SettingsPage(), list[dict[str, Any]]()
    page.settings_requested.connect(asked.append)
    page.render_network(offline=False, decided=False)

    for _ in range(2):
        QTest.mouseClick(page.offline, Qt.MouseButton.LeftButton, pos=QPoint(8, page.offline.height() // 2))

    assert asked == [{"offline": True}, {"offline": False}]


def test_what_the_environment_decided_is_shown_and_cannot_be_changed(qapp: QApplication) -> None:
    page = SettingsPage()
    page.render_network(offline=True, decided=True)

    assert page.offline.isChecked() and not page.offline.isEnabled()
    assert "QLORA_STUDIO_OFFLINE" in page.offline.toolTip()
