"""A full disk in the middle of a run: wait with everything in memory, and go on when there is space again."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from qlora_studio.core.commands import Resume
from qlora_studio.core.problem import StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.fault import is_disk_full

_POLL_SECONDS = 0.5
_MARGIN = 64 << 20  # bytes beyond what is to be written

T = TypeVar("T")


def retried_when_full(write: Callable[[], T], size: Callable[[], int], context: JobContext) -> T:
    """Return what `write` returns. Where the disk is full, wait for `size()` bytes, or for Resume, and retry.

    Nothing of the run is lost meanwhile: it stays in the worker's memory. A Stop raises JobStopped.
    """
    while True:
        try:
            return write()
        except OSError as error:
            if not is_disk_full(error):
                raise
        _wait_for_space(size() + _MARGIN, context)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise StudioError where the drive of `folder` has not `needed` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudioError(
            f"{what} needs {bytes_text(needed)} on the drive of {folder}; {bytes_text(free)} are free.",
            kind="disk_full",
            advice=f"Free {bytes_text(needed - free)} there, or choose another drive.",
        )


def _wait_for_space(needed: int, context: JobContext) -> None:
    free = shutil.disk_usage(context.folder.path).free
    short = max(needed - free, _MARGIN)
    context.phase("waiting_for_space")
    context.warn("disk_full", f"The disk is full. Free {bytes_text(short)}, then press Resume. Nothing is lost.")
    while shutil.disk_usage(context.folder.path).free < needed:
        commands = context.commands()
        context.raise_if_stopped()
        if any(isinstance(command, Resume) for command in commands):
            return
        time.sleep(_POLL_SECONDS)
