"""The memory that is free for a model: on the card, or in RAM as far as the system and a limit on the process allow."""

import re
from pathlib import Path

import psutil
import torch

# Of a container or a batch system: (limit, in use, and what of that are files, which go when memory is wanted).
_LIMITS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes() -> int:
    """Return the bytes that are free where models are loaded."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else free_ram()


def free_ram() -> int:
    """Return the bytes of RAM that this process can still take."""
    return min(int(psutil.virtual_memory().available), *_left_by_limits(), *_left_by_limits(_own_group()))


def _left_by_limits(group: str = "") -> list[int]:
    """Return what each limit of a control group leaves; a large number where there is none."""
    left = [1 << 62]
    for root, limit, used, files in _LIMITS:
        folder = Path(f"{root}/{group}")
        try:
            allowed = int((folder / limit).read_text("ascii"))
            held = re.search(rf"^{files} (\d+)$", (folder / "memory.stat").read_text("ascii"), re.MULTILINE)
            left.append(allowed - int((folder / used).read_text("ascii")) + int(held[1] if held else 0))
        except (OSError, ValueError):  # "max", another system, or another version of control groups
            continue
    return left


def _own_group() -> str:
    """Return the control group that limits this process's memory, below the root that is seen here."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return ""
    found = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return next((path.strip("/") for _, kinds, path in found if kinds in ("", "memory")), "")
