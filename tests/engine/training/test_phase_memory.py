"""Peaks by phase, from torch's two counters."""

from dataclasses import dataclass

from qlora_studio.core.run.events import MemoryMeasured
from qlora_studio.engine.training.phase_memory import PhaseMemory, phase_memory


@dataclass
class _Counters:
    """As torch keeps them: a current count, and its peak since the last reset."""

    current: int = 0
    peak: int = 0

    def use(self, most: int, *, keep: int) -> None:
        self.peak, self.current = max(self.peak, most), keep

    def reset(self) -> None:
        self.peak = self.current


def test_each_phase_has_its_own_peak_and_is_told_as_it_grows() -> None:
    told: list[MemoryMeasured] = []
    counters = _Counters()
    memory = PhaseMemory(told.append, lambda: (counters.peak, 2 * counters.peak), counters.reset)
    counters.use(700, keep=500)
    for backward in (900, 905, 1200):
        memory.enter("forward")
        counters.use(800, keep=600)
        memory.enter("backward")
        counters.use(backward, keep=500)
        memory.enter("optimizer")
        counters.use(520, keep=500)
        memory.tell()
    assert memory.peak_bytes == 1200
    assert [(event.phase, event.allocated_bytes) for event in told] == [
        ("load", 700),
        ("forward", 800),
        ("backward", 900),
        ("optimizer", 520),
        ("backward", 1200),
    ]
    assert all(event.reserved_bytes == 2 * event.allocated_bytes for event in told)


def test_a_phase_without_a_name_is_counted_to_none() -> None:
    told: list[MemoryMeasured] = []
    counters = _Counters()
    memory = PhaseMemory(told.append, lambda: (counters.peak, counters.peak), counters.reset)
    memory.enter("")
    counters.use(10_000, keep=10)
    memory.enter("forward")
    memory.tell()
    assert {event.phase: event.allocated_bytes for event in told} == {"forward": 10}


def test_a_processor_has_nothing_to_tell() -> None:
    told: list[MemoryMeasured] = []
    memory = phase_memory(told.append)
    memory.enter("forward")
    memory.enter("backward")
    memory.tell()
    assert told == []
    assert memory.peak_bytes == 0
