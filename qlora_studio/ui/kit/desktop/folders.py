"""What the desktop does for the window: folders opened, and put into the trash."""

from pathlib import Path

from PySide6.QtCore import QFile, QUrl
from PySide6.QtGui import QDesktopServices

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say


def move_to_trash(path: Path) -> None:
    """Put a folder into the desktop's trash. Raises StudioError where that cannot be."""
    if not QFile.moveToTrash(str(path)):
        raise StudioError(
            say("{path} cannot be moved to the trash.", path=path),
            kind=FailureKind.NOT_WRITABLE,
            advice=say("Remove the folder by hand, or keep the run."),
        )


def show_folder(path: str) -> None:
    """Open a folder on the desktop."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(path))
