"""Sees that every run elsewhere is followed: a mirror that somebody ended, or that had no network, is started again."""

from PySide6.QtCore import QObject, QTimer

from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.worker_process import WorkerProcess
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio

_MILLISECONDS = 15_000


class MirrorKeeper(QObject):
    """Looks now and then, and at once when the settings change: the network may be switched on again."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        self._studio = studio
        self._mirrors: dict[str, WorkerProcess] = {}  # those that were started here, which outlive the window
        self._starter = Background(self)
        self._starter.answered.connect(self._on_started)
        self._starter.failed.connect(studio.failed)
        self._clock = QTimer(self)
        self._clock.setInterval(_MILLISECONDS)
        self._clock.timeout.connect(self._look)
        self._clock.start()
        studio.settings_changed.connect(lambda _settings: self._look())

    def _on_started(self, mirrors: dict[str, WorkerProcess]) -> None:
        self._mirrors |= mirrors

    def _look(self) -> None:
        self._mirrors = {path: mirror for path, mirror in self._mirrors.items() if mirror.poll() is None}
        folders = [session.folder for session in self._studio.runs.at_work_anywhere() if session.is_elsewhere]
        if folders:
            self._starter.ask(_started, folders)


def _started(folders: list[RunFolder]) -> dict[str, WorkerProcess]:
    """Start the mirrors that are missing. Raises StudioError."""
    mirrors = {str(folder.path): (folder, require_mirror(folder)) for folder in folders}
    return {path: WorkerProcess(popen, folder) for path, (folder, popen) in mirrors.items() if popen is not None}
