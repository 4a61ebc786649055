"""A step with Hugging Face's plain loss in a bare loop: how the published measurements on a Tesla T4 were made.

fp16, `torch.optim.AdamW` in fp32, `prepare_model_for_kbit_training` on a 4-bit base, no mixed precision, no mask, full
logits, and the model's output still alive while the optimizer steps.
"""

from dataclasses import dataclass
from typing import Any

import torch

from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.engine.memory.allocator import CachingAllocator
from qlora_studio.engine.memory.cuda_on_meta import cuda_on_meta
from qlora_studio.engine.memory.meta_model import build_meta_model, replay_load
from qlora_studio.engine.memory.trace import MemoryTrace

_STEPS = 2
_LOADING_THREADS = 4  # of transformers 5.0


@dataclass(frozen=True)
class PlainTrace:
    """Peaks by phase and what was reserved, in bytes."""

    peaks: dict[str, int]
    reserved: int

    @property
    def allocated(self) -> int:
        """The most allocated in any phase of a step."""
        return max(self.peaks[phase] for phase in ("forward", "backward", "optimizer"))


def trace_plain_loop(config: Any, setup: MemorySetup, dtype: torch.dtype) -> PlainTrace:
    """Return what loading a model and the loop's two steps would take on a card: one to warm up, one measured.

    A 4-bit base is loaded onto the card, a 16-bit one into memory and then moved.
    """
    allocator = CachingAllocator()
    trace = MemoryTrace(allocator, workspace_bytes=setup.workspace_bytes)
    model = build_meta_model(config, setup, dtype)
    plain = setup.quantization == "none"
    replay_load(trace, model, setup, dtype, empty_cache=False, moved=plain, threads=0 if plain else _LOADING_THREADS)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, foreach=True)
    batch = torch.empty(setup.batch, setup.row_tokens, dtype=torch.long, device="meta")
    trace.track(batch)
    with cuda_on_meta(setup, autocast=None, triton=True), trace:
        for step in range(_STEPS):
            optimizer.zero_grad(set_to_none=True)
            trace.enter_phase("forward")
            out = model(input_ids=batch, labels=batch)
            trace.enter_phase("backward")
            out.loss.backward()
            trace.enter_phase("optimizer")
            optimizer.step()
            if step < _STEPS - 1:
                del out
    return PlainTrace({phase: peak.allocated for phase, peak in trace.peaks.items()}, allocator.peak_reserved)
