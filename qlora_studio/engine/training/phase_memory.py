"""What each phase of a run takes of the card at most, by torch's count, told as it grows."""

from collections.abc import Callable

import torch

from qlora_studio.core.run.events import MemoryMeasured

Read = Callable[[], tuple[int, int]]
_WORTH_TELLING = 1.01


class PhaseMemory:
    """Follows the phases of a run. `read` returns the peaks (allocated, reserved) since `reset`; both are torch's."""

    def __init__(self, tell: Callable[[MemoryMeasured], None], read: Read, reset: Callable[[], None]) -> None:
        self._tell, self._read, self._reset = tell, read, reset
        self.phase = "load"
        self._peaks: dict[str, tuple[int, int]] = {}
        self._told: dict[str, int] = {}

    @property
    def peak_bytes(self) -> int:
        """The most that was allocated at once in any phase."""
        self._note()
        return max((allocated for allocated, _ in self._peaks.values()), default=0)

    def enter(self, phase: str) -> None:
        """Count what follows to another phase; an empty name is counted to none."""
        self._note()
        self._reset()
        self.phase = phase

    def tell(self) -> None:
        """Tell of each phase that took notably more than was told of it."""
        self._note()
        for phase, (allocated, reserved) in self._peaks.items():
            if allocated > _WORTH_TELLING * self._told.get(phase, 0):
                self._told[phase] = allocated
                self._tell(MemoryMeasured(phase=phase, allocated_bytes=allocated, reserved_bytes=reserved))

    def _note(self) -> None:
        if self.phase:
            known, now = self._peaks.get(self.phase, (0, 0)), self._read()
            self._peaks[self.phase] = max(known[0], now[0]), max(known[1], now[1])


def phase_memory(tell: Callable[[MemoryMeasured], None]) -> PhaseMemory:
    """Return the phases' memory on the card; on a processor there is nothing to count, and nothing is told."""
    if torch.cuda.is_available():
        return PhaseMemory(tell, _peaks, torch.cuda.reset_peak_memory_stats)
    return PhaseMemory(tell, lambda: (0, 0), lambda: None)


def _peaks() -> tuple[int, int]:
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
