"""Connects the Settings page to the settings, the cards, and what the program is made of on this machine."""

import platform
from importlib.metadata import PackageNotFoundError, version

from PySide6.QtCore import QObject

from qlora_studio import __version__
from qlora_studio.core.memory.gpu_catalogue import GPUS
from qlora_studio.storage.settings import Settings, cache_path, data_path
from qlora_studio.ui.kit.desktop import show_folder
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "PySide6-Essentials", "pyqtgraph")


class SettingsWiring(QObject):
    """The Settings page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: SettingsPage) -> None:
        super().__init__(window)
        self._studio, self._page = studio, page
        page.settings_requested.connect(lambda values: studio.change_settings(**values))
        page.folder_requested.connect(show_folder)
        studio.settings_changed.connect(lambda _settings: self._render())
        window.page_shown.connect(self._on_page_shown)

    def _on_page_shown(self, name: str) -> None:
        if name == self._page.name:
            self._render()

    def _render(self) -> None:
        settings = self._studio.settings
        self._page.render_cards([gpu.name for gpu in GPUS])
        self._page.render_settings(settings)
        self._page.render_about(versions(), folders(settings))


def versions() -> tuple[tuple[str, str], ...]:
    """Return names and versions."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return (("QLoRA Studio", __version__), ("System", system), *((name, _version(name)) for name in _PACKAGES))


def folders(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return where things are kept."""
    return (("Runs", str(settings.runs_path)), ("Data", str(data_path())), ("Cache", str(cache_path())))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
