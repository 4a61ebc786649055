"""Asking where a file is to be saved, without stopping the window meanwhile."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QStandardPaths, Qt
from PySide6.QtWidgets import QFileDialog, QWidget

_last: list[Path] = []  # the folder of the last file that was saved


def ask_save_path(parent: QWidget, title: str, name: str, pattern: str, then: Callable[[Path], None]) -> None:
    """Ask under which name to save; `then` gets the path. `pattern` is the kind of file, as `PNG picture (*.png)`."""
    dialog = QFileDialog(parent, title, str(_folder()), pattern)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(Path(name).suffix.removeprefix("."))
    dialog.selectFile(name)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(lambda path: _on_chosen(Path(path), then))
    dialog.open()


def _on_chosen(path: Path, then: Callable[[Path], None]) -> None:
    _last[:] = [path.parent]
    then(path)


def _folder() -> Path:
    if _last and _last[0].is_dir():
        return _last[0]
    return Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation) or Path.home())
