"""The one place that starts processes: no file of a folder that somebody filled is taken for a Python module there.

A `jinja2.py` that lies in a run folder, beside a dataset or where the user stands must not be imported in the place of
the library. So children of this interpreter get -P, grandchildren the same by their environment, and all of them work
in an empty folder that belongs to the program; what they are to read and write is named to them in full.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qlora_studio.storage.permissions import private_folder, umask_of_children

AGAIN = 75  # the exit code of a program that asks whoever started it to start it anew; sysexits.h's EX_TEMPFAIL
_PLACES = ("QLORA_STUDIO_HOME", "HF_HOME", "HF_HUB_CACHE")  # may be relative to this process


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this interpreter anew."""
    return (sys.executable, "-P", *arguments)


def start(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a program in the neutral folder; `environment` is added to this process's own. Raises OSError."""
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [*command],
        cwd=neutral_folder(),
        env={**safe_environment(), **(environment or {})},
        umask=umask_of_children(),
        **options,
    )
    return process


def start_here(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program in this process's own folder and environment, where this one was started by `start` itself."""
    process: subprocess.Popen[bytes] = subprocess.Popen([*command], **options)
    return process


def ask(command: Sequence[str], seconds: float) -> tuple[int, str, str]:
    """Run a program to its end; return exit code, stdout and stderr. Raises OSError and subprocess.TimeoutExpired."""
    with start(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def safe_environment() -> dict[str, str]:
    """Return this process's environment with safe imports, and with folders named in full, as they are seen here.

    Where nothing may reach the network, that stands in it too, for the libraries of whatever is started.
    """
    from qlora_studio.storage.network import offline_environment  # here, for it takes pydantic

    environment = {**os.environ, "PYTHONSAFEPATH": "1", **offline_environment()}
    environment.update({name: str(Path(environment[name]).absolute()) for name in _PLACES if environment.get(name)})
    # What a developer works from stays; an empty entry would mean the current folder.
    if entries := [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]:
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    return environment


def neutral_folder() -> Path:
    """Return an empty folder that only this user can write to; the root of the file system where none can be made."""
    from qlora_studio.storage.settings import cache_path  # here, for it takes pydantic, and the supervisor stays small

    folder = cache_path() / "empty"
    try:
        private_folder(folder)
    except OSError:  # a full or read-only disk; -P holds there too
        return Path(folder.anchor)
    return folder
