"""Installs packages into the environment of this program, whatever made it, because the user asked for that."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.installer_words import meaning_of
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command, installer, torn_record
from qlora_studio.storage.network import require_network

_LAST_WORDS = 2000
_PYTHON = child_process.python()[0]
_LOOK_SECONDS = 0.2


def install_packages(*words: str, shown: bool = False) -> None:
    """Install by pip's words; `shown` lets the installer draw its progress on stderr. Raises StudioError.

    What was fetched whole is kept by the installer and not fetched again.
    """
    output, errors = (sys.stderr.fileno(), subprocess.PIPE) if shown else (subprocess.PIPE, subprocess.STDOUT)
    with _begun(words, output, errors) as process:
        said = b"".join(_passed_on(process.stderr or process.stdout, shown))
        process.wait()
    _end(words, process.returncode, said)


def install_watched(words: tuple[str, ...], tell: Callable[[int], None], stop: threading.Event) -> None:
    """Install the same way; `tell` gets how many bytes came of the file that comes, some times a second.

    Soon after `stop` was set it is given up: a StudioError, as all that keeps it from being installed.
    """
    with tempfile.TemporaryFile() as said, _begun(words, said, subprocess.STDOUT) as process:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
            if stop.is_set():
                raise StudioError(say("It was stopped."), kind=FailureKind.INTERRUPTED)
            tell(_written_by(process.pid))
        said.seek(0)
        _end(words, process.returncode, said.read())


@contextlib.contextmanager
def _begun(words: tuple[str, ...], output: int | IO[bytes], errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the installer; it ends with whoever waits for it."""
    require_network(say("{packages} is not fetched: the network is switched off here.", packages=_packages(words)))
    try:
        for record in filter(None, map(torn_record, _names(words))):
            shutil.rmtree(record)
        with tempfile.TemporaryDirectory(prefix="qlora-studio-pip-") as folder:
            command = [*(installer() or _pip_of_its_own(Path(folder))), *words]
            with child_process.start(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors) as process:
                try:
                    yield process
                except BaseException:  # Ctrl-C above all: what is fetched half is given up
                    process.kill()
                    raise
    except OSError as error:
        raise _failed(words, str(error)) from error


def _passed_on(stream: IO[bytes] | None, shown: bool) -> Iterator[bytes]:
    """Yield what an installer says, line by line, shown where that is asked for."""
    for line in stream or ():
        if shown:
            os.write(sys.stderr.fileno(), line)
        yield line


def _written_by(pid: int) -> int:
    """Return the size of the largest file that an installer writes: pip a wheel, uv at once what is in it.

    Neither tells a program how far it is: uv never, and pip since 24.1. On Windows nothing is known of it.
    """
    sizes = [0]
    with contextlib.suppress(psutil.Error):
        installer = psutil.Process(pid)
        for process in (installer, *installer.children(recursive=True)) if sys.platform != "win32" else ():
            written = [file.path for file in process.open_files() if getattr(file, "mode", "r") != "r"]
            for path in written:
                with contextlib.suppress(OSError):
                    sizes.append(Path(path).stat().st_size)
    return max(sizes)


def _end(words: tuple[str, ...], code: int, said: bytes) -> None:
    if code:
        raise _failed(words, said.decode("utf-8", "replace").strip())
    importlib.invalidate_caches()  # so that this process finds it, too


def _failed(words: tuple[str, ...], said: str) -> StudioError:
    why, advice = meaning_of(said) or ("", say("See whether the network is reached."))
    return StudioError(
        say("{packages} could not be installed. {why}", packages=_packages(words), why=why).rstrip(),
        kind=FailureKind.ERROR,
        advice=say("{first} Then try: {command}", first=advice, command=install_command(*words)),
        detail=said[-_LAST_WORDS:],
    )


def _pip_of_its_own(folder: Path) -> list[str]:
    """Return a pip that lives in `folder` and installs here: for an environment of uv's where uv is not found."""
    with child_process.start(
        [*child_process.python("-m", "venv"), folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        said, _ = process.communicate()
    if process.returncode:
        raise StudioError(
            say("There is neither pip nor uv here, and none could be made."),
            kind=FailureKind.ERROR,
            advice=say("Install uv, or pip for {python}.", python=_PYTHON),
            detail=said.decode("utf-8", "replace").strip()[-_LAST_WORDS:],
        )
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return [str(python), "-m", "pip", "--python", _PYTHON, "install"]


def _packages(words: tuple[str, ...]) -> str:
    return ", ".join(_specifiers(words))


def _names(words: tuple[str, ...]) -> list[str]:
    return [re.split(r"[<>=!~\[ ]", word, maxsplit=1)[0] for word in _specifiers(words)]


def _specifiers(words: tuple[str, ...]) -> list[str]:
    """Return the packages among the words, without options and what they take."""
    before = ("", *words)
    return [word for last, word in zip(before, words, strict=False) if word[:1] != "-" and last != "--index-url"]
