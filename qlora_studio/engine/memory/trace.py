"""Records every allocation that real training code makes on meta tensors, as a card's allocator would see it.

A meta tensor has a shape and no data, so that a step of a 70B model runs in seconds on any processor. Each storage that
an operation creates is put into the allocator's model, and taken out when Python lets go of it.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qlora_studio.core.config.optimizer import optimizer_named
from qlora_studio.core.memory.formula import HEAD_TILE_TOKENS, HEAD_TILE_WORDS
from qlora_studio.engine.memory.allocator import Block, CachingAllocator
from qlora_studio.engine.memory.cuda_kernels import indexed_by_mask, scratch_after, scratch_during, uses_cublas


@dataclass
class TracedPeak:
    """The most allocated within a phase, and of what kinds it was."""

    allocated: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)


class MemoryTrace(TorchDispatchMode):
    """Feeds storages of meta tensors to an allocator. `kind` names what new storages are, for the breakdown."""

    def __init__(
        self,
        allocator: CachingAllocator,
        *,
        workspace_bytes: int = 0,
        vocabulary: int = 0,
        trained_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.allocator = allocator
        self.kind = "activations"
        self.phase = "load"
        self.peaks: dict[str, TracedPeak] = {}
        self._workspace_bytes = workspace_bytes
        self._with_workspace: set[str] = set()  # threads whose cuBLAS handle has its workspace
        self._vocabulary = vocabulary
        self._trained_share = trained_share
        self._live: dict[int, tuple[Block, str]] = {}
        self._by_kind: Counter[str] = Counter()

    def track(self, tensor: Any, kind: str = "") -> None:
        """Count the storage of a meta tensor from now on, once, until it is freed."""
        if not isinstance(tensor, torch.Tensor) or tensor.device.type != "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live or not storage.nbytes():
            return
        kind = kind or ("logits" if self._is_logits(tensor.shape) else self.kind)
        self._live[key] = (self._allocate(storage.nbytes(), kind), kind)
        weakref.finalize(storage, self._release, key)

    def hold(self, size: int, kind: str) -> None:
        """Allocate bytes that no tensor stands for, for good: a workspace, an optimizer's state."""
        self._allocate(size, kind)

    def rekind(self, tensor: torch.Tensor, kind: str) -> None:
        """Name what a tracked tensor is, after all."""
        key = tensor.untyped_storage()._cdata
        if key in self._live:
            block, old = self._live[key]
            self._by_kind[old] -= block.size
            self._by_kind[kind] += block.size
            self._live[key] = (block, kind)

    @contextmanager
    def scratch(self, sizes: list[int], kind: str = "") -> Iterator[None]:
        """Allocate what a kernel needs while it runs."""
        kind = kind or self.kind
        blocks = [self.borrow(size, kind) for size in sizes if size > 0]
        try:
            yield
        finally:
            for block in blocks:
                self.give_back(block, kind)

    def borrow(self, size: int, kind: str) -> Block:
        """Allocate bytes that no tensor stands for, until they are given back."""
        return self._allocate(size, kind)

    def give_back(self, block: Block, kind: str) -> None:
        """Free what was borrowed."""
        self._by_kind[kind] -= block.size
        self.allocator.free(block)

    def enter_phase(self, phase: str) -> None:
        """Count what follows to another phase."""
        self.phase = phase
        self._note_peak()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation with the memory that its CUDA kernel takes."""
        kwargs = kwargs or {}
        name = func._schema.name
        with self.scratch(scratch_during(name, args)):
            if (masked := indexed_by_mask(name, args, self._trained_share)) is not None:
                out = masked
            else:
                out = func(*args, **kwargs)
            self._track_all(out)
            if uses_cublas(name):
                self._hold_workspace()
        with self.scratch(scratch_after(name, args)):
            return out

    def _hold_workspace(self) -> None:
        """Give this thread's cuBLAS handle its workspace at the first product, in whatever gap it then fits.

        Autograd walks the graph of tensors on a card in a thread of its own, with a handle of its own.
        """
        thread = "autograd" if self.phase == "backward" else "main"
        if self._workspace_bytes and thread not in self._with_workspace:
            self._with_workspace.add(thread)
            self.hold(self._workspace_bytes, "activations")

    def _track_all(self, out: Any) -> None:
        if isinstance(out, torch.Tensor):
            self.track(out)
        elif isinstance(out, (tuple, list)):
            for item in out:
                self._track_all(item)

    def _is_logits(self, shape: torch.Size) -> bool:
        if not self._vocabulary or not shape:
            return False
        is_tile = len(shape) == 2 and shape[1] == HEAD_TILE_WORDS and shape[0] <= HEAD_TILE_TOKENS
        return is_tile or shape[-1] == self._vocabulary

    def _allocate(self, size: int, kind: str) -> Block:
        block = self.allocator.allocate(size)
        self._by_kind[kind] += block.size
        self._note_peak()
        return block

    def _note_peak(self) -> None:
        peak = self.peaks.setdefault(self.phase, TracedPeak())
        if self.allocator.allocated > peak.allocated:
            peak.allocated = self.allocator.allocated
            peak.by_kind = self._by_kind.copy()

    def _release(self, key: int) -> None:
        block, kind = self._live.pop(key)
        self._by_kind[kind] -= block.size
        self.allocator.free(block)


def hold_optimizer_state(trace: MemoryTrace, parameters: list[Any], optimizer: str) -> int:
    """Allocate the state of the optimizer's first step; return the bytes that lie in managed memory instead."""
    known = optimizer_named(optimizer)
    managed = 0
    for parameter in parameters:
        ordinary, paged = known.buffers(parameter.numel(), parameter.element_size())
        for size in ordinary:
            trace.hold(size, "optimizer")
        managed += sum(paged)
    return managed
