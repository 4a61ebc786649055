"""Starting the program: in the environment that goes with the package, which is made first where it is not there."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qlora_studio.bootstrap.places import Environment, Places
from qlora_studio.bootstrap.source import Source

_FAILED = 1


def start(places: Places, folder: Path, argv: Sequence[str], set_up: Callable[[], int]) -> int:
    """Start the program; `set_up` is asked first where the package is another one than what is set up.

    What is there is started all the same where the user wants the new one later.
    """
    source, current = Source.at(folder), places.current()
    if current is None or not source.is_in(current):
        if code := set_up():
            return code
        current = places.current()
    return _run(current, argv) if current else _FAILED


def _run(environment: Environment, argv: Sequence[str]) -> int:
    if sys.platform != "win32":
        os.execv(environment.folder / "bin" / "qlora-studio", ["qlora-studio", *argv])
    # Without a console where this has none: `pythonw` beside `python` then.
    name = "python.exe" if sys.stdout else "pythonw.exe"
    return subprocess.run(
        [environment.python.with_name(name), "-I", "-m", "qlora_studio", *argv], check=False
    ).returncode
