"""A full disk in the middle of a run: wait with everything in memory, and go on when there is space again."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import Pause, Resume
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.faults import is_card_lost, is_disk_full

_POLL_SECONDS = 0.5
_MARGIN = 64 << 20  # bytes beyond what is to be written
_RESERVE = 1 << 20  # bytes kept for the events that tell of a full disk

T = TypeVar("T")


def keep_reserve(folder: Path) -> None:
    """Keep a little of the disk for the events that would tell that it is full. Does nothing where it is full."""
    path = folder / ".reserve"
    try:
        if not path.exists():
            path.write_bytes(b"\xff" * _RESERVE)
    except OSError:
        path.unlink(missing_ok=True)


def retried_when_full(write: Callable[[], T], size: Callable[[], int], context: JobContext) -> T:
    """Return what `write` returns. Where the disk is full, wait for space or for the user's Resume, and try again.

    Nothing of the run is lost meanwhile: it stays in the worker's memory. A Stop raises JobStopped. torch and
    safetensors have errors of their own for a failed write, which do not always say why it failed.
    """
    while True:
        try:
            result = write()
        except (OSError, RuntimeError, SafetensorError) as error:
            if is_card_lost(error) or (not is_disk_full(error) and _free(context) >= size()):
                raise
        else:
            keep_reserve(context.folder.path)
            return result
        _wait(size() + _MARGIN, context)


def _wait(needed: int, context: JobContext) -> None:
    """Wait until there is space, or where a quota and not the disk is full, until the user says so."""
    (context.folder.path / ".reserve").unlink(missing_ok=True)
    by_quota = _free(context) >= needed
    context.phase(Activity.WAITING_FOR_SPACE)
    context.warn("disk_full", _words(needed - _free(context), by_quota))
    while by_quota or _free(context) < needed:
        commands = context.commands()
        context.raise_if_stopped()
        if any(isinstance(command, Resume | Pause) for command in commands):
            return
        time.sleep(_POLL_SECONDS)


def _words(short: int, by_quota: bool) -> str:
    if by_quota:
        return "A quota or limit of this system forbids to write more. Raise it, then press Resume. Nothing is lost."
    return f"The disk is full. Free {bytes_text(short)}, then press Resume. Nothing is lost."


def _free(context: JobContext) -> int:
    return shutil.disk_usage(context.folder.path).free
