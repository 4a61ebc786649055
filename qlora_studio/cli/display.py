"""Whether a window can be opened here."""

import os
import sys

from qlora_studio.core.errors import FailureKind, StudioError

_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def has_display() -> bool:
    """Whether there is a screen to draw on; Windows and macOS always have one."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in _VARIABLES)


def require_display() -> None:
    """Raise StudioError where no window can be opened."""
    if not has_display():
        raise StudioError(
            "There is no display to open a window on.",
            kind=FailureKind.NO_DISPLAY,
            advice="Every command works without one: see `qlora-studio --help`, or try `qlora-studio demo`.",
        )
