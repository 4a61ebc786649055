"""Whether Qt can be loaded here. Where a system library is missing, one line says which package brings it."""

import importlib
import os
import re
import sys

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command
from qlora_studio.storage.qt_libraries import PACKAGES, X11, missing_libraries, packages_advice

_LIBRARY = re.compile(r"lib[\w.+-]+\.so(?:\.\d+)*")


def require_qt() -> None:
    """Raise StudioError where Qt, or what its X11 platform needs, cannot be loaded."""
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        raise missing(str(error)) from error
    if _is_x11() and (absent := missing_libraries(X11)):
        raise missing(" ".join(absent))  # without this, Qt would end the process


def missing(text: str) -> StudioError:
    """Return the error for what the loader said: it names the first library that is missing, and we name the others."""
    named = _LIBRARY.findall(text)
    others = missing_libraries(PACKAGES if _is_x11() else PACKAGES.keys() - X11)
    known = [library for library in PACKAGES if library in (*named, *others)]
    unknown = [library for library in named if library not in PACKAGES]
    if unknown:
        advice = say("Install the package of your system that contains {library}.", library=unknown[0])
    elif known:
        advice = packages_advice(known)
    else:
        advice = say("Install Qt again: {command}", command=install_command("--force-reinstall", "PySide6-Essentials"))
    message = _message([*unknown, *known], text)
    return StudioError(message, kind=FailureKind.NO_DISPLAY, advice=advice, detail=text)


def _message(libraries: list[str], text: str) -> str:
    if len(libraries) == 1:
        return say("The window cannot be opened: the system library {name} is missing.", name=libraries[0])
    if libraries:
        names = ", ".join(libraries)
        return say("The window cannot be opened: the system libraries {names} are missing.", names=names)
    return say("The window cannot be opened: {reason}.", reason=text)


def _is_x11() -> bool:
    platform = os.environ.get("QT_QPA_PLATFORM", "")
    if not sys.platform.startswith("linux") or platform not in ("", "xcb"):
        return False
    return platform == "xcb" or (bool(os.environ.get("DISPLAY")) and not os.environ.get("WAYLAND_DISPLAY"))
