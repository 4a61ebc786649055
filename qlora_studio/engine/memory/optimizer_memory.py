"""What an optimizer's state takes: as torch counts it, and in the managed memory of the paged ones."""

from typing import Any

from qlora_studio.core.memory.resident import state_sizes
from qlora_studio.engine.memory.trace import MemoryTrace


def hold_optimizer_state(trace: MemoryTrace, parameters: list[Any], optimizer: str) -> int:
    """Allocate the state of the optimizer's first step; return the bytes that lie in managed memory instead."""
    managed = 0
    for parameter in parameters:
        ordinary, paged = state_sizes(parameter.numel(), parameter.element_size(), optimizer)
        for size in ordinary:
            trace.hold(size, "optimizer")
        managed += sum(paged)
    return managed
