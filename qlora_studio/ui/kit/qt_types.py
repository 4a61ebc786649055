"""The types of Qt, made in the window's own thread before any other thread asks for them.

PySide makes a type when somebody first names it. Another thread that imports what names many of them (pyqtgraph names
all) makes them beside the window's thread, which meets the same types in its events: once in some 200 starts of the
window, the process crashed.
"""

import importlib
from collections.abc import Iterator

_MODULES = ("QtCore", "QtGui", "QtWidgets", "QtSvg", "QtSvgWidgets", "QtOpenGL", "QtOpenGLWidgets", "QtTest")


def made_qt_types() -> Iterator[None]:
    """Make every type that the window or pyqtgraph may name, with a pause after each. Takes 0.1 s in all."""
    for name in _MODULES:
        try:
            module = importlib.import_module(f"PySide6.{name}")
        except ImportError:  # a system without OpenGL: pyqtgraph does without, too
            continue
        yield
        for type_name in dir(module):
            getattr(module, type_name)
            yield
