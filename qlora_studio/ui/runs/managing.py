"""Connects the Runs page to what is done with runs as folders: named, put into the trash, measured."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDialog

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.run_care.disk_use import DiskUse
from qlora_studio.storage.run_care.removal import require_removable
from qlora_studio.storage.run_care.run_label import MOST_TAGS, RunLabel, write_label
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.kit.desktop.folders import move_to_trash
from qlora_studio.ui.runs.label_dialog import LabelDialog
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.view import removal_question
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_line import RunLine
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.dialogs import ask_trash
from qlora_studio.ui.window.main_window import MainWindow


class RunsManaging(QObject):
    """The runs of the page as folders."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunsPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs = studio, window, page, runs
        self._removal = Background(self)
        self._removal.answered.connect(self._on_removed)
        self._removal.failed.connect(self._on_failed)
        page.label_requested.connect(self._on_label_requested)
        page.delete_requested.connect(self._on_delete_requested)
        page.view_changed.connect(lambda columns, order: studio.change_settings(runs_columns=columns, runs_order=order))
        page.render_view(studio.settings.runs_columns, studio.settings.runs_order)

    def _on_label_requested(self, paths: list[str]) -> None:
        lines = self._lines(paths)
        if not lines:
            return
        one = lines[0] if len(lines) == 1 else None
        several = 0 if one else len(lines)
        label = one.label if one else RunLabel()
        dialog = LabelDialog(self._window, label, given_name=lines[0].given_name, several=several)
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        label = dialog.label()
        dialog.deleteLater()
        if accepted:
            self._write_labels(lines, label, adding=one is None)

    def _write_labels(self, lines: Sequence[RunLine], label: RunLabel, *, adding: bool) -> None:
        self._page.clear_error()
        try:
            for line in lines:
                tags = tuple(dict.fromkeys((*line.label.tags, *label.tags)))[:MOST_TAGS]
                write_label(RunFolder(line.path), line.label.model_copy(update={"tags": tags}) if adding else label)
        except (StudioError, OSError) as error:
            self._page.show_error(error)
        self._studio.runs.look_at_names()
        self._runs.refresh()

    def _on_delete_requested(self, paths: list[str]) -> None:
        lines = self._lines(paths)
        if lines and ask_trash(self._window, *removal_question(lines, self._runs.lines)):
            self.remove(paths)

    def remove(self, paths: Sequence[str]) -> None:
        """Put runs into the trash, beside the event loop: those that nobody works in, and that hold nothing foreign."""
        self._page.clear_error()
        for path in paths:
            if path not in {str(session.folder.path) for session in self._studio.runs.at_work_anywhere()}:
                self._studio.runs.forget(RunFolder(path))
        self._removal.ask(_moved_to_trash, tuple(paths))

    def _on_removed(self, paths: list[str]) -> None:
        for path in paths:
            self._studio.queue.remove(RunFolder(path))
        self._runs.refresh()

    def _on_failed(self, error: StudioError) -> None:
        self._page.show_error(error)
        self._runs.refresh()

    def _lines(self, paths: Sequence[str]) -> list[RunLine]:
        return [line for path in paths if (line := self._runs.line(path)) is not None]


class RunSizes(QObject):
    """Measures what the runs take of the disk, beside the event loop, whenever the page shows another list of them."""

    def __init__(self, page: RunsPage, runs: RunsList, render: Callable[[], None]) -> None:
        super().__init__(page)
        self.sizes: dict[str, int] = {}
        self._page, self._runs, self._render = page, runs, render
        self._use = DiskUse()
        self._measuring = Background(self)
        self._measuring.answered.connect(self._on_measured)
        runs.changed.connect(self.measure)

    def measure(self) -> None:
        """Measure them again where the page is in front; a run that is as it was costs nothing."""
        if self._page.isVisible():
            self._measuring.ask(self._use.of, [line.path for line in self._runs.lines])

    def _on_measured(self, sizes: dict[str, int]) -> None:
        if sizes != self.sizes:
            self.sizes = sizes
            self._render()


def _moved_to_trash(paths: Sequence[str]) -> list[str]:
    """Put runs into the trash; return them. Raises StudioError with what was left where it is."""
    moved: list[str] = []
    left: list[StudioError] = []
    for path in paths:
        try:
            require_removable(RunFolder(path))
            move_to_trash(Path(path))
            moved.append(path)
        except StudioError as error:
            left.append(error)
    if left:
        more = say("{moved} of {paths} runs were moved. ", moved=len(moved), paths=len(paths)) if len(paths) > 1 else ""
        kind = left[0].kind if len(left) == 1 else FailureKind.NOT_WRITABLE
        raise StudioError(
            more + left[0].message, kind=kind, advice=left[0].advice, detail="\n".join(e.message for e in left[1:])
        )
    return moved
