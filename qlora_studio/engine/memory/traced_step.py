"""Training steps on meta tensors: the model, loss and adapters of a run, with every allocation recorded."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.utils import add_fused_lm_head

from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.engine.memory.allocator import CachingAllocator
from qlora_studio.engine.memory.cuda_on_meta import cuda_on_meta
from qlora_studio.engine.memory.meta_model import build_meta_model, replay_load
from qlora_studio.engine.memory.trace import MemoryTrace, hold_optimizer_state


@dataclass(frozen=True, kw_only=True)
class TraceOptions:
    """How the training code runs. `autocast` is the Trainer's mixed precision, `triton` trl's kernels for the head."""

    dtype: torch.dtype = torch.bfloat16
    autocast: torch.dtype | None = torch.bfloat16
    expandable: bool = True
    triton: bool = True
    empty_cache: bool = True
    steps: int = 2
    evaluate: bool = True


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """What a trace came to, in bytes: peaks and their kinds by phase, what was reserved, and managed memory."""

    peaks: dict[str, int]
    kinds: dict[str, dict[str, int]]
    reserved: int
    managed: int

    @property
    def peak_phase(self) -> str:
        """The phase that takes the most."""
        return max(self.peaks, key=lambda phase: self.peaks[phase])

    @property
    def allocated(self) -> int:
        """The most that is allocated at once."""
        return self.peaks[self.peak_phase]


def trace_step(
    config: Any, setup: MemorySetup, options: TraceOptions, told: Callable[[str], None] = lambda phase: None
) -> TracedStep:
    """Return what loading and training a model of a transformers config would take on a card.

    Raises TracerOutdated where a library is not the one that the tracer knows. `told` hears each phase as it begins.
    """
    told("load")
    allocator = CachingAllocator(expandable=options.expandable)
    vocabulary = int(config.get_text_config().vocab_size)
    trace = MemoryTrace(
        allocator,
        workspace_bytes=setup.workspace_bytes,
        vocabulary=vocabulary,
        trained_share=setup.trained_share,
    )
    model = build_meta_model(config, setup, options.dtype)
    if setup.loss == "fused":
        base = model.get_base_model() if setup.method == "lora" else model
        add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    replay_load(trace, model, setup, options.dtype, empty_cache=options.empty_cache)
    step = _Step(model, trace, setup)
    with _collector_begins_anew(), cuda_on_meta(setup, autocast=options.autocast, triton=options.triton), trace:
        for _ in range(options.steps):
            step.run(told)
        if options.evaluate:
            told("evaluation")
            step.evaluate()
    return TracedStep(
        peaks={phase: peak.allocated for phase, peak in trace.peaks.items()},
        kinds={phase: dict(peak.by_kind) for phase, peak in trace.peaks.items()},
        reserved=allocator.peak_reserved,
        managed=step.managed,
    )


@contextmanager
def _collector_begins_anew() -> Iterator[None]:
    """Let Python's collector run as in a fresh process, whatever this one did before.

    When it frees tensors that hang in cycles decides how much the allocator holds back.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
    try:
        yield
    finally:
        gc.unfreeze()


class _Step:
    """One optimizer step after another, as the Trainer takes them."""

    def __init__(self, model: Any, trace: MemoryTrace, setup: MemorySetup) -> None:
        self._model, self._trace, self._setup = model, trace, setup
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._batch = _batch(setup)
        self._is_first = True
        self.managed = 0
        for tensor in self._batch.values():
            trace.track(tensor)
        for parameter in self._trained:
            parameter.register_post_accumulate_grad_hook(self._name_gradient)

    def run(self, told: Callable[[str], None]) -> None:
        """Take a step: of one batch at first, and then of two where batches are accumulated; more are as the second."""
        for _ in range(1 if self._is_first else min(2, self._setup.accumulation)):
            told("forward")
            self._trace.enter_phase("forward")
            loss = self._loss()
            told("backward")
            self._trace.enter_phase("backward")
            loss.backward()
            del loss
        self._trace.enter_phase("optimizer")
        if self._is_first:
            self.managed = hold_optimizer_state(self._trace, self._trained, self._setup.optimizer)
        for parameter in self._trained:
            parameter.grad = None
        self._is_first = False

    def evaluate(self) -> None:
        """Measure a batch without gradients."""
        self._trace.enter_phase("evaluation")
        self._model.eval()
        with torch.no_grad():
            self._loss()

    def _loss(self) -> Any:
        if self._setup.loss == "plain":
            return self._model(**self._batch, use_cache=False).loss
        return self._model(**self._batch, use_cache=False, fused_lm_head=True).loss

    def _name_gradient(self, parameter: Any) -> None:
        self._trace.rekind(parameter.grad, "adapter")


def _batch(setup: MemorySetup) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `labels` and `attention_mask`, each int64 of shape (batch, row_tokens)."""
    shape = setup.batch, setup.row_tokens
    names = "input_ids", "labels", "attention_mask"
    return {name: torch.empty(shape, dtype=torch.long, device="meta") for name in names}
