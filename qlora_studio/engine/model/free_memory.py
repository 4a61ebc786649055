"""The memory that is free for a model: on the card, or in RAM as far as the system and a limit on the process allow."""

import re
from pathlib import Path

import psutil
import torch

# Of a container or a batch system: where, and the names of its limit, of what is used, and of what of that are files.
_LIMITS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes() -> int:
    """Return the bytes that are free where models are loaded."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else free_ram()


def free_ram() -> int:
    """Return the bytes of RAM that this process can still take."""
    groups = ("", _own_group())
    left = [found for root, *files in _LIMITS for group in groups for found in left_by(Path(root) / group, *files)]
    return min([int(psutil.virtual_memory().available), *left])


def left_by(folder: Path, limit: str, used: str, inactive: str) -> list[int]:
    """Return what the limit of a control group leaves, whose folder and names in it are given; none where it has none.

    What it uses counts files that were read, too; those go when memory is wanted.
    """
    try:
        allowed, held = (int((folder / name).read_text("ascii")) for name in (limit, used))
        found = re.search(rf"^{inactive} (\d+)$", (folder / "memory.stat").read_text("ascii"), re.MULTILINE)
    except (OSError, ValueError):  # "max", another system, or the other version of control groups
        return []
    return [allowed - held + int(found[1] if found else 0)]


def _own_group() -> str:
    """Return the control group that limits this process's memory, below the root that is seen here."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return ""
    found = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return next((path.strip("/") for _, kinds, path in found if kinds in ("", "memory")), "")
