"""The system libraries that Qt's wheels take from the system, and which package brings each."""

import ctypes
import sys
from collections.abc import Iterable, Sequence

from qlora_studio.core.words import say

# Library, package of Debian and Ubuntu, package of Fedora.
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
X11 = tuple(name for name in PACKAGES if name.startswith(("libxcb-", "libxkbcommon-", "libX11-")))


def missing_libraries(names: Iterable[str] = PACKAGES) -> tuple[str, ...]:
    """Return those that cannot be loaded here, all at once. `X11` are those that only that platform takes."""
    return tuple(name for name in names if sys.platform.startswith("linux") and not _loads(name))


def packages_advice(libraries: Sequence[str]) -> str:
    """Return the line that installs the packages of these libraries."""
    debian, fedora = (" ".join(dict.fromkeys(PACKAGES[name][place] for name in libraries)) for place in (0, 1))
    return say(
        "On Debian and Ubuntu: sudo apt install {debian} · on Fedora: sudo dnf install {fedora}",
        debian=debian,
        fedora=fedora,
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
