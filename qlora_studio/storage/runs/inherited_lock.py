"""The lock of a run's folder, held by a process and by the one that it starts: it is free when both have ended.

It is the lock that `filelock` takes there, without the eight megabytes of its import. Windows has no lock that two
processes hold together: there a worker takes it by itself.
"""

import os
import sys
import time
from pathlib import Path

from qlora_studio.storage.permissions import mode_of_file

if sys.platform != "win32":
    import fcntl

VARIABLE = "QLORA_STUDIO_LOCK"  # tells a worker that it is looked after, and the descriptor of the lock
NO_LOCK = "none"  # for one that takes the lock by itself
_PATIENCE = 1.0  # seconds; whoever looks whether a worker lives holds the lock for a moment
_POLL_SECONDS = 0.02


def take(path: Path) -> int | None:
    """Take the lock and return its descriptor, to be passed on; None where another holds it, or none can be taken."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode_of_file(path))
    except OSError:
        return None
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(_POLL_SECONDS)
        else:
            return descriptor


def release(descriptor: int) -> None:
    """Free the lock, also for the process that it was inherited from."""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
