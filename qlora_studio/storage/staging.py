"""Hidden names under which things are written, and what is done with those that nobody writes any more.

A name says who writes: the number of the process, on which computer or in which container, and when it started there,
since numbers are used again. Nothing is removed whose writer may live, and no link is followed.
"""

import hashlib
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

REPLACED = ".replaced-"
_STAGING = re.compile(r"\.staging-(?P<pid>\d{1,9})(?:\.(?P<host>[0-9a-f]{8})\.(?P<started>\d+))?-.*")
_STRANGERS_SECONDS = 24 * 3600.0  # without a write, before what another computer writes counts as abandoned


def staging_path(final: Path) -> Path:
    """Return where this process writes what becomes `final`."""
    pid = os.getpid()
    return final.with_name(f".staging-{pid}.{_here()}.{_started(pid)}-{final.name}")


def remove_abandoned(folder: Path) -> int:
    """Remove what processes that are gone staged in a folder; return how many bytes that were."""
    removed = 0
    with suppress(OSError):
        for path in named(folder, ".staging-"):
            if (match := _STAGING.fullmatch(path.name)) and not path.is_symlink() and _is_abandoned(path, match):
                removed += _bytes(path)
                _remove(path)
    return removed


def restore_replaced(folder: Path) -> None:
    """Give what was being replaced its name back where the new one did not get it; remove it where it did."""
    with suppress(OSError):
        for path in named(folder, REPLACED):
            if path.is_symlink():
                continue
            final = path.with_name(path.name.removeprefix(REPLACED))
            if os.path.lexists(final):
                _remove(path)
            else:
                path.rename(final)


def named(folder: Path, prefix: str) -> list[Path]:
    """Return what in a folder has a name that begins like that. Raises OSError."""
    with os.scandir(folder) as entries:  # at each start for every folder of every run: `glob` takes five times as long
        return [folder / entry.name for entry in entries if entry.name.startswith(prefix)]


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    if match["host"] not in (None, _here()):
        return time.time() - _last_write(path) > _STRANGERS_SECONDS
    pid = int(match["pid"])
    if not psutil.pid_exists(pid):
        return True
    started = _started(pid)
    return bool(match["started"] and started) and started != match["started"]


@cache
def _here() -> str:
    """Return what tells this computer, or container, from others that see the same folder."""
    numbers = Path("/proc/self/ns/pid")  # a container has process numbers of its own
    with suppress(OSError):
        numbers = numbers.readlink()
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _started(pid: int) -> str:
    """Return when a process started, by a clock that nobody sets; nothing where that is not to be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # clock ticks since the boot
    except OSError:
        with suppress(psutil.Error):
            return str(int(psutil.Process(pid).create_time()))
    return ""


def _last_write(path: Path) -> float:
    return max(item.lstat().st_mtime for item in (path, *path.rglob("*")))


def _bytes(path: Path) -> int:
    return sum(item.lstat().st_size for item in (path, *path.rglob("*")) if item.is_file() and not item.is_symlink())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
