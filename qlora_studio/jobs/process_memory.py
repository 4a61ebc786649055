"""What the worker and the machine hold in memory; shown where no graphics card is. Sizes are bytes."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class ProcessMemory:
    """Resident size of a worker with its children, None where it does not live, beside the machine's memory."""

    worker_bytes: int | None
    machine_total_bytes: int
    machine_available_bytes: int


def sample_memory(worker_pid: int | None = None) -> ProcessMemory:
    """Return the memory of now."""
    machine = psutil.virtual_memory()
    return ProcessMemory(
        worker_bytes=resident_bytes(worker_pid) if worker_pid else None,
        machine_total_bytes=int(machine.total),
        machine_available_bytes=int(machine.available),
    )


def resident_bytes(pid: int) -> int | None:
    """Return the resident size of a process with its children, or None where there is none that may be asked."""
    try:
        process = psutil.Process(pid)
        total = int(process.memory_info().rss)
        children = process.children(recursive=True)
    except psutil.Error:
        return None
    for child in children:
        try:
            total += int(child.memory_info().rss)
        except psutil.Error:
            continue
    return total
