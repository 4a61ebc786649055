"""Connects the Settings page to the settings, the cards, and what the program is made of on this machine."""

import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PySide6.QtCore import QObject

from qlora_studio import __version__
from qlora_studio.core.memory.gpu_catalogue import GPUS
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.storage.languages import languages
from qlora_studio.storage.models.kept_bases import kept_name
from qlora_studio.storage.network import VARIABLE, is_offline
from qlora_studio.storage.runs.cache_rooms import Kept, require_nobody_at_work, room_named
from qlora_studio.storage.settings import Settings, cache_path, data_path
from qlora_studio.ui.kit.desktop.folders import show_folder
from qlora_studio.ui.kit.language import own_name
from qlora_studio.ui.kit.layouts import still
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "PySide6-Essentials", "pyqtgraph")
_BASES = room_named("bases")


class SettingsWiring(QObject):
    """The Settings page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: SettingsPage) -> None:
        super().__init__(window)
        self._studio, self._page = studio, page
        page.settings_requested.connect(lambda values: studio.change_settings(**values))
        page.folder_requested.connect(show_folder)
        self._bases = Background(self)
        self._bases.answered.connect(lambda kept: page.render_kept(kept_words(kept), removable=bool(kept)))
        self._bases.failed.connect(studio.failed)
        self._early = Background(self)
        self._early.ask(versions)  # known, then, when the page is shown: it takes reading the papers of each package
        page.removal_requested.connect(lambda: self._bases.ask(_removed, studio.settings.runs_path))
        studio.settings_changed.connect(self._render)
        window.page_shown.connect(self._on_page_shown)

    def _on_page_shown(self, name: str) -> None:
        if name == self._page.name:
            self._render()

    def _render(self) -> None:
        settings = self._studio.settings
        self._page.render_cards([gpu.name for gpu in GPUS])
        self._page.render_languages({name: own_name(name) for name in languages()})
        self._page.render_settings(settings)
        self._page.render_network(offline=is_offline(), decided=VARIABLE in os.environ)
        with still(self._page):
            self._page.render_about(versions(), folders(settings))
        self._bases.ask(_BASES.kept, kept_name)


def kept_words(kept: Sequence[Kept]) -> str:
    """Return what the bases in 4 bits that are kept take of the disk."""
    if not kept:
        return say("None is in the cache.")
    names = ", ".join(f"{item.name} {bytes_text(item.size)}" for item in kept)
    return say("In the cache: {names}.", names=names)


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Return names and versions."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return (("QLoRA Studio", __version__), (say("System"), system), *((name, _version(name)) for name in _PACKAGES))


def folders(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return where things are kept."""
    return ((say("Runs"), str(settings.runs_path)), (say("Data"), str(data_path())), (say("Cache"), str(cache_path())))


def _removed(runs: Path) -> list[Kept]:
    """Remove the bases in 4 bits, and return what is left of them. Raises StudioError."""
    require_nobody_at_work(runs)
    _BASES.remove()
    return _BASES.kept(kept_name)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return say("not installed")
