"""Sees that every run elsewhere is followed: a mirror that somebody ended, or that had no network, is started again."""

from contextlib import suppress

from PySide6.QtCore import QObject, QTimer

from qlora_studio.core.errors import StudioError
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio

_MILLISECONDS = 15_000


class MirrorKeeper(QObject):
    """Looks now and then, and at once when the settings change: the network may be switched on again."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        self._studio = studio
        self._starter = Background(self)
        self._clock = QTimer(self)
        self._clock.setInterval(_MILLISECONDS)
        self._clock.timeout.connect(self._look)
        self._clock.start()
        studio.settings_changed.connect(self._look)

    def _look(self) -> None:
        folders = [session.folder for session in self._studio.runs.at_work_anywhere() if session.is_elsewhere]
        if folders:
            self._starter.ask(_require, folders)


def _require(folders: list[RunFolder]) -> None:
    """Start the mirrors that are missing. What keeps one from starting was told when its run was opened."""
    for folder in folders:
        with suppress(StudioError, OSError):
            require_mirror(folder)
