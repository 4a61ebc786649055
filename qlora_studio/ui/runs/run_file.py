"""Connects the Runs page to files: a run file is opened or saved, a bug report packed, the command line shown."""

from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QFileDialog, QLineEdit, QWidget

from qlora_studio.core.config.run_config_text import from_mapping, to_toml
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.titles import datasets_title
from qlora_studio.core.words import say
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_toml
from qlora_studio.storage.run_care.report_pack import write_report
from qlora_studio.storage.run_care.run_label import name_of
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.question import DialogButtons
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, column, row
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.report_dialog import ReportDialog
from qlora_studio.ui.runs.view import command_lines, report_text
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow

_FILES = say("Run files (*.toml)")


class RunFiles(QObject):
    """What is done with a run's settings as a file."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunsPage) -> None:
        super().__init__(window)
        self._studio, self._window, self._page = studio, window, page
        page.file_requested.connect(self._on_file_requested)
        page.save_requested.connect(self._on_save_requested)
        page.report_requested.connect(self._on_report_requested)
        self._packing = Background(self)
        self._packing.answered.connect(self._on_packed)
        self._packing.failed.connect(page.show_error)
        page.command_requested.connect(self._on_command_requested)

    def open(self, path: Path) -> None:
        """Offer the settings of a file for the draft; what cannot be read is told."""
        self._page.clear_error()
        try:
            config = from_mapping(read_toml(path))
        except FileNotFoundError:
            words = say("{path} is not there.", path=path)
            self._page.show_error(
                StudioError(words, kind=FailureKind.RUN_NOT_FOUND, advice=say("Choose another file."))
            )
            return
        except (StudioError, OSError) as error:
            self._page.show_error(error)
            return
        self._studio.draft.propose(say("“{file}”", file=path.name), config)

    def save(self, run: str, path: Path) -> None:
        """Write the settings of a run into a file of their own."""
        self._page.clear_error()
        try:
            write_atomically(path, to_toml(RunFolder(run).config()).encode())
        except (StudioError, OSError) as error:
            self._page.show_error(error)

    def pack(self, run: str, path: Path, *, with_data: bool = False) -> None:
        """Pack a run for a bug report, beside the event loop."""
        self._page.clear_error()
        self._packing.ask(_packed, RunFolder(run), path, with_data)

    def _on_packed(self, text: str) -> None:
        self._page.render_summary(text)

    def _on_report_requested(self, run: str) -> None:
        folder = RunFolder(run)
        try:
            config = folder.config()
        except (StudioError, OSError) as error:
            self._page.show_error(error)
            return
        dialog = ReportDialog(self._window, name_of(folder, config), datasets_title(config))
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        with_data = dialog.with_data.isChecked()
        dialog.deleteLater()
        if accepted:
            self._ask_place(run, with_data)

    def _ask_place(self, run: str, with_data: bool) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self._window, say("Pack a bug report"), "run-report.zip", say("Zip files (*.zip)")
        )
        if path:
            self.pack(run, Path(path), with_data=with_data)

    def _on_file_requested(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._window, say("Open a run.toml"), "", _FILES)
        if path:
            self.open(Path(path))

    def _on_save_requested(self, run: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self._window, say("Save the settings of the run"), "run.toml", _FILES)
        if path:
            self.save(run, Path(path))

    def _on_command_requested(self, run: str) -> None:
        dialog = CommandDialog(self._window, run)
        dialog.exec()
        dialog.deleteLater()


class CommandDialog(QDialog):
    """Shows the command line that starts the same run anew, for each shell, to be copied."""

    def __init__(self, parent: QWidget, run: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(say("Command line"))
        self.setMinimumWidth(640)
        self.copy_buttons: list[Button] = []
        box = column(self, margins=(18, 16, 18, 16), spacing=10)
        box.addWidget(Label(say("Starts a new run with the same settings, without the window."), wrap=True))
        for shell, text in command_lines(run):
            box.addWidget(Label(shell, "caption"))
            line = row()
            field, copy = QLineEdit(text), Button(say("Copy"))
            field.setReadOnly(True)
            field.setCursorPosition(0)
            field.setAccessibleName(say("Command line for {shell}", shell=shell))
            copy.setAccessibleName(say("Copy the command line for {shell}", shell=shell))
            copy.clicked.connect(lambda _checked=False, text=text: QGuiApplication.clipboard().setText(text))
            self.copy_buttons.append(copy)
            line.addWidget(field, 1)
            line.addWidget(copy)
            box.addLayout(line)
        box.addWidget(DialogButtons(self, leave=say("Close")))
        give_letters(self)


def _packed(folder: RunFolder, path: Path, with_data: bool) -> str:
    write_report(folder, path, with_data=with_data)
    return report_text(path, with_data=with_data)
