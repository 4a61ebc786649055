"""Installs packages into the environment of this program, whatever made it, because the user asked for that."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command, installer
from qlora_studio.storage.network import require_network

_LAST_WORDS = 2000
_PYTHON = child_process.python()[0]


def install_packages(*words: str, shown: bool = False) -> None:
    """Install by pip's words; `shown` lets the installer draw its progress on stderr. Raises StudioError.

    What was fetched whole is kept by the installer and not fetched again.
    """
    require_network(say("{packages} is not fetched: the network is switched off here.", packages=_packages(words)))
    with tempfile.TemporaryDirectory(prefix="qlora-studio-pip-") as folder:
        command = installer() or _pip_of_its_own(Path(folder))
        code, said = _run([*command, *words], shown=shown)
    if code:
        raise StudioError(
            say("{packages} could not be installed.", packages=_packages(words)),
            kind=FailureKind.ERROR,
            advice=say("See whether the network is reached, and try: {command}", command=install_command(*words)),
            detail=said[-_LAST_WORDS:],
        )
    importlib.invalidate_caches()  # so that this process finds it, too


def _run(command: list[str], *, shown: bool) -> tuple[int, str]:
    """Return the exit code and what was said; where it is shown, it was said to the terminal."""
    output = sys.stderr.fileno() if shown else subprocess.PIPE
    process = child_process.start(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate()
    except BaseException:  # Ctrl-C above all: what is fetched half is given up
        process.kill()
        process.wait()
        raise
    return process.returncode, (said or b"").decode("utf-8", "replace").strip()


def _pip_of_its_own(folder: Path) -> list[str]:
    """Return a pip that lives in `folder` and installs here: for an environment of uv's where uv is not found."""
    code, said = _run([*child_process.python("-m", "venv"), str(folder)], shown=False)
    if code:
        raise StudioError(
            say("There is neither pip nor uv here, and none could be made."),
            kind=FailureKind.ERROR,
            advice=say("Install uv, or pip for {python}.", python=_PYTHON),
            detail=said[-_LAST_WORDS:],
        )
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return [str(python), "-m", "pip", "--python", _PYTHON, "install"]


def _packages(words: tuple[str, ...]) -> str:
    """Return the packages among the words, without options and what they take."""
    before = ("", *words)
    names = [word for last, word in zip(before, words, strict=False) if word[:1] != "-" and last != "--index-url"]
    return ", ".join(names)
