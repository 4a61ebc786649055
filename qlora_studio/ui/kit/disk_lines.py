"""What will be written, a line a drive: how much, for what, and how much is free there; red where it does not fit."""

from collections.abc import Sequence

from PySide6.QtWidgets import QWidget

from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.storage.drive_space import DriveSpace
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import column

_MOST = 4  # drives


class DiskLines(QWidget):
    """Shows drives."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = tuple(Label("", "caption", wrap=True, selectable=True) for _ in range(_MOST))
        box = column(self, spacing=4)
        for line in self._lines:
            box.addWidget(line)
        self.show_drives(())

    def show_drives(self, drives: Sequence[DriveSpace]) -> None:
        """Show other drives, or none."""
        for index, line in enumerate(self._lines):
            drive = drives[index] if index < len(drives) else None
            line.setText(drive_text(drive) if drive else "")
            line.set_tone("bad" if drive and not drive.fits else "")
            line.setVisible(drive is not None)

    def text(self) -> str:
        """Return what is shown."""
        return "\n".join(line.text() for line in self._lines if line.text())


def drive_text(drive: DriveSpace) -> str:
    """Return one drive in a sentence."""
    parts = ", ".join(f"{item.what} {bytes_text(item.size)}" for item in drive.writings)
    what = say("for {what}", what=drive.writings[0].what) if len(drive.writings) == 1 else f"({parts})"
    needed = say(
        "On the drive {name}: {needed} will be written {what}",
        name=drive.name,
        needed=bytes_text(drive.needed),
        what=what,
    )
    if drive.free is None:
        return say("{needed}; how much is free is not known.", needed=needed)
    if drive.fits:
        return say("{needed}, {free} free.", needed=needed, free=bytes_text(drive.free))
    return say(
        "{needed}, only {free} free. {what_to_free}",
        needed=needed,
        free=bytes_text(drive.free),
        what_to_free=what_to_free(drive),
    )


def what_to_free(drive: DriveSpace) -> str:
    """Return what to do about a drive that has no room."""
    return say("Free {needed} there, or choose another drive.", needed=bytes_text(drive.needed - (drive.free or 0)))
