"""Starting the program: in the environment that goes with the package, which is made first where it is not there."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qlora_studio.bootstrap.places import Environment, Places
from qlora_studio.bootstrap.source import Source
from qlora_studio.bootstrap.terminal import STOPPED

_FAILED = 1


def start(places: Places, folder: Path, argv: Sequence[str], set_up: Callable[[], int]) -> int:
    """Start the program; `set_up` is asked first where the package is another one than what is set up.

    What is there is started all the same where the new one is to be made later, or could not be made.
    """
    source, current = Source.at(folder), places.current()
    if current is None or not source.is_in(current):
        code, current = set_up(), places.current()
        if current is None or code == STOPPED:
            return code or _FAILED
    return _run(current, argv)


def _run(environment: Environment, argv: Sequence[str]) -> int:
    for name in ("PYTHONHOME", "PYTHONPATH"):  # they are of other programs
        os.environ.pop(name, None)
    if sys.platform != "win32":
        os.execv(environment.folder / "bin" / "qlora-studio", ["qlora-studio", *argv])
    # Without a console where this has none: `pythonw` beside `python` then.
    name = "python.exe" if sys.stdout else "pythonw.exe"
    return subprocess.run(
        [environment.python.with_name(name), "-I", "-m", "qlora_studio", *argv], check=False
    ).returncode
