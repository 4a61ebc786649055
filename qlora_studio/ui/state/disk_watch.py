"""Watches what the window speaks of and others may change: the draft's files, and the settings of other windows."""

import importlib
import time
from pathlib import Path
from typing import NamedTuple

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.file_stamps import DATASET_DEPTH, Stamp, stamp_of
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.runs.parent_adapter import parent_folder
from qlora_studio.storage.settings import settings_path
from qlora_studio.ui.state.background import Background

_PAUSE_SECONDS = 2.0
_SHARE = 20  # of the time, at most one part of so many goes into looking


class DiskWatch(QObject):
    """Looks every other second, beside the event loop, and less often where that takes long.

    Signals, of files that were written, replaced, removed or put back since the last look:
        model_changed: those of the draft's model.
        adapter_changed: those of the adapter that it goes on from.
        data_changed: those of its datasets.
        settings_changed: the user's settings, by this window or by another one.
        looked: nobody knows; the drives have more room, or less.
    """

    model_changed = Signal()
    adapter_changed = Signal()
    data_changed = Signal()
    settings_changed = Signal()
    looked = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._config = RunConfig()
        self._known: dict[str, _Watched] = {}
        self._changes = {
            "model": self.model_changed,
            "adapter": self.adapter_changed,
            "data": self.data_changed,
            "settings": self.settings_changed,
        }
        self._began, self._has_ended = 0.0, False
        self._looker = Background(self)
        self._looker.answered.connect(self._on_looked)
        self._looker.failed.connect(self._look_later)  # what could not be looked at now may be later
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self.look)

    def take_config(self, config: RunConfig) -> None:
        """Watch the files of another draft; at once, so that no change of them is missed."""
        before, self._config = self._config, config
        if _places(before) != _places(config):
            self.look()

    def look(self) -> None:
        """Look now."""
        if self._has_ended:
            return
        self._pause.stop()
        self._began = time.monotonic()
        self._looker.ask(_look, self._config)

    def end(self) -> None:
        """Look no more: what a window that is going still does to the draft is not looked at."""
        self._has_ended = True
        self._pause.stop()
        self._looker.forget()

    def _on_looked(self, seen: "dict[str, _Watched]") -> None:
        known, self._known = self._known or seen, seen
        for name, changed in self._changes.items():
            if known[name].places == seen[name].places and known[name].stamps != seen[name].stamps:
                changed.emit()
        self.looked.emit()
        self._look_later()

    def _look_later(self) -> None:
        took = time.monotonic() - self._began
        self._pause.start(int(1000 * max(_PAUSE_SECONDS, _SHARE * took)))


class _Watched(NamedTuple):
    """What was looked at, by the names that the draft has for it, and how its files stood."""

    places: tuple[str, ...]
    stamps: tuple[Stamp, ...]


def _places(config: RunConfig) -> dict[str, tuple[str, ...]]:
    sources = (*config.data.sources, *([config.data.evaluation] if config.data.evaluation else []))
    return {
        "model": (config.model.source, config.model.revision),
        "adapter": (config.lora.start_from,),
        "data": tuple(source.path for source in sources if source.path),
        "settings": (str(settings_path()),),
    }


def _look(config: RunConfig) -> dict[str, _Watched]:
    places = _places(config)
    stamps = {
        "model": (_model_stamp(*places["model"]),),
        "adapter": tuple(map(_adapter_stamp, places["adapter"])),
        "data": tuple(stamp_of(Path(path), depth=DATASET_DEPTH) for path in places["data"]),
        "settings": tuple(stamp_of(Path(path)) for path in places["settings"]),
    }
    return {name: _Watched(places[name], stamps[name]) for name in places}


def _model_stamp(source: str, revision: str) -> Stamp:
    """Return the stamp of a model's files, empty where it is not on this computer."""
    importlib.invalidate_caches()  # the starter is a package, which may have come just now
    try:
        path = locate_model(source, revision).path
    except StudioError:
        return ()
    return stamp_of(path) if path is not None else ()


def _adapter_stamp(start_from: str) -> Stamp:
    try:
        return stamp_of(parent_folder(start_from)) if start_from else ()
    except StudioError:
        return ()
