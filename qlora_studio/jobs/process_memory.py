"""What the worker and the machine hold in memory; shown where no graphics card is. Sizes are bytes."""

import time
from dataclasses import dataclass

import psutil

_FAMILY_SECONDS = 10.0  # to find a process's children, every process of the machine is asked


@dataclass(frozen=True)
class ProcessMemory:
    """Resident size of a worker with its children, None where it does not live, beside the machine's memory."""

    worker_bytes: int | None
    machine_total_bytes: int
    machine_available_bytes: int


class MemoryMeter:
    """Samples one worker again and again; its children are looked for from time to time alone."""

    def __init__(self) -> None:
        self._family: list[psutil.Process] = []
        self._found = 0.0

    def sample(self, worker_pid: int | None = None) -> ProcessMemory:
        """Return the memory of now."""
        machine = psutil.virtual_memory()
        return ProcessMemory(
            worker_bytes=self.resident_bytes(worker_pid) if worker_pid else None,
            machine_total_bytes=int(machine.total),
            machine_available_bytes=int(machine.available),
        )

    def resident_bytes(self, pid: int) -> int | None:
        """Return the resident size of a process with its children, or None where there is none that may be asked."""
        known = self._family[0].pid if self._family else None
        if pid != known or time.monotonic() - self._found > _FAMILY_SECONDS:
            self._family, self._found = _family_of(pid), time.monotonic()
        sizes = [_resident_bytes(process) for process in self._family]
        return sum(size or 0 for size in sizes) if sizes and sizes[0] is not None else None


def sample_memory(worker_pid: int | None = None) -> ProcessMemory:
    """Return the memory of now, once."""
    return MemoryMeter().sample(worker_pid)


def _family_of(pid: int) -> list[psutil.Process]:
    """Return a process and its children; nothing where there is none that may be asked."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _resident_bytes(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return None
