"""The estimate job: traces a config's memory without a card and reports it."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory.estimate import Estimate, make_components, make_phases
from qlora_studio.core.memory.estimator import USUAL_CONTEXT_BYTES, notes
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.setup import MemorySetup, compute_dtype_of, setup_for
from qlora_studio.core.model.shape import ModelShape, shape_from_config
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import EstimateJob
from qlora_studio.core.run.reports import EstimateReported
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.memory.traced_step import TracedStep, TraceOptions, trace_step
from qlora_studio.storage.models.catalogue import find_in_catalogue
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.gguf_header import gguf_config
from qlora_studio.storage.models.location import locate_model, sound_gguf
from qlora_studio.storage.runs.parent_adapter import with_parent

TRACED_ERROR_SHARE = 0.05


def run(job: EstimateJob, context: JobContext) -> Finished:
    """Trace the job's config; report the estimate."""
    if job.gpu and find_gpu(job.gpu) is None:
        raise StudioError(
            say("No graphics card {gpu} is in the catalogue.", gpu=repr(job.gpu)),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Use a name such as 'RTX 4090' or 'A100 80 GB'."),
        )

    def tell(phase: str) -> None:
        context.raise_if_stopped()
        context.phase(Activity(f"tracing_{phase}"))

    report = traced_estimate(job.config, gpu_name=job.gpu, told=tell).to_report()
    context.emit(EstimateReported(report=report))
    return Finished()


def traced_estimate(config: RunConfig, *, gpu_name: str = "", told: Any = lambda phase: None) -> Estimate:
    """Return the traced estimate of a run. Raises StudioError where the model's config cannot be had."""
    config = with_parent(config)
    raw = model_config(config.model.source, config.model.revision)
    gpu = find_gpu(gpu_name)
    shape = shape_from_config(raw)
    setup = setup_for(config, shape, gpu=gpu)
    dtype: torch.dtype = getattr(torch, compute_dtype_of(config, gpu))
    options = TraceOptions(
        dtype=dtype,
        autocast=None if dtype == torch.float32 else dtype,
        expandable=sys.platform == "linux",
        triton=sys.platform == "linux",
    )
    traced = trace_step(AutoConfig.for_model(**raw), setup, options, told)
    return _estimate(shape, setup, traced)


def model_config(source: str, revision: str = "") -> dict[str, Any]:
    """Return the `config.json` of a model: from its files, from its GGUF header, or from the catalogue."""
    location = locate_model(source, revision)
    if location.path is None:
        if (known := find_in_catalogue(source)) is not None:
            return known.config
        raise StudioError(
            say("{source} is neither on this computer nor in the catalogue, so its shape is not known.", source=source),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say("Download the model first."),
        )
    path = Path(location.path)
    return gguf_config(sound_gguf(path)) if location.kind == "gguf" else read_config(path)


def _estimate(shape: ModelShape, setup: MemorySetup, traced: TracedStep) -> Estimate:
    kinds = traced.kinds[traced.peak_phase]
    cache = traced.reserved - sum(kinds.values())
    sizes = {
        "weights": kinds.get("weights", 0),
        "adapter": kinds.get("adapter", 0),
        "optimizer": kinds.get("optimizer", 0) + traced.managed,
        "activations": kinds.get("activations", 0) + cache,
        "logits": kinds.get("logits", 0),
        "context": USUAL_CONTEXT_BYTES,
    }
    return Estimate(
        components=make_components(sizes),
        allocated_bytes=traced.allocated,
        reserved_bytes=traced.reserved,
        managed_bytes=traced.managed,
        context_bytes=USUAL_CONTEXT_BYTES,
        total_bytes=traced.reserved + traced.managed + USUAL_CONTEXT_BYTES,
        error_share=TRACED_ERROR_SHARE,
        level="traced",
        peak_phase=traced.peak_phase,
        phases=make_phases(traced.peaks),
        notes=notes(shape, setup),
    )
