"""Whether Qt can be loaded here. Where a system library is missing, one line says which package brings it."""

import ctypes
import importlib
import os
import re
import sys

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command

# What Qt's wheels take from the system: library, package of Debian and Ubuntu, package of Fedora.
PACKAGES = {
    "libEGL.so.1": ("libegl1", "libglvnd-egl"),
    "libGL.so.1": ("libgl1", "libglvnd-glx"),
    "libGLX.so.0": ("libglx0", "libglvnd-glx"),
    "libOpenGL.so.0": ("libopengl0", "libglvnd-opengl"),
    "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon"),
    "libdbus-1.so.3": ("libdbus-1-3", "dbus-libs"),
    "libfontconfig.so.1": ("libfontconfig1", "fontconfig"),
    "libfreetype.so.6": ("libfreetype6", "freetype"),
    "libglib-2.0.so.0": ("libglib2.0-0", "glib2"),
    "libX11.so.6": ("libx11-6", "libX11"),
    "libX11-xcb.so.1": ("libx11-xcb1", "libX11-xcb"),
    "libxcb-cursor.so.0": ("libxcb-cursor0", "xcb-util-cursor"),
    "libxcb-icccm.so.4": ("libxcb-icccm4", "xcb-util-wm"),
    "libxcb-image.so.0": ("libxcb-image0", "xcb-util-image"),
    "libxcb-keysyms.so.1": ("libxcb-keysyms1", "xcb-util-keysyms"),
    "libxcb-render-util.so.0": ("libxcb-render-util0", "xcb-util-renderutil"),
    "libxcb-xkb.so.1": ("libxcb-xkb1", "libxcb"),
    "libxkbcommon-x11.so.0": ("libxkbcommon-x11-0", "libxkbcommon-x11"),
}
_PLATFORM = tuple(library for library in PACKAGES if library.startswith(("libxcb-", "libxkbcommon-", "libX11-")))


def require_qt() -> None:
    """Raise StudioError where Qt, or what its X11 platform needs, cannot be loaded."""
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        raise missing(str(error)) from error
    if _is_x11():
        for library in _PLATFORM:
            try:
                ctypes.CDLL(library)
            except OSError as error:
                raise missing(library) from error  # without this, Qt would end the process


def missing(text: str) -> StudioError:
    """Return the error for what the loader said."""
    library = next(iter(re.findall(r"lib[\w.+-]+\.so(?:\.\d+)*", text)), "")
    if library in PACKAGES:
        debian, fedora = PACKAGES[library]
        advice = say(
            "On Debian and Ubuntu: sudo apt install {debian} · on Fedora: sudo dnf install {fedora}",
            debian=debian,
            fedora=fedora,
        )
    elif library:
        advice = say("Install the package of your system that contains {library}.", library=library)
    else:
        advice = say("Install Qt again: {command}", command=install_command("--force-reinstall", "PySide6-Essentials"))
    what = say("the system library {library} is missing", library=library) if library else text
    return StudioError(
        say("The window cannot be opened: {what}.", what=what), kind=FailureKind.NO_DISPLAY, advice=advice, detail=text
    )


def _is_x11() -> bool:
    platform = os.environ.get("QT_QPA_PLATFORM", "")
    if not sys.platform.startswith("linux") or platform not in ("", "xcb"):
        return False
    return platform == "xcb" or (bool(os.environ.get("DISPLAY")) and not os.environ.get("WAYLAND_DISPLAY"))
