"""The instant estimate: how much graphics memory a run will take, in well under a millisecond, while a slider moves."""

from dataclasses import replace

from qlora_studio.core.config.optimizer import AUTO, optimizer_named
from qlora_studio.core.config.run_config import RunConfig, means_several
from qlora_studio.core.memory.estimate import Estimate, make_components, make_phases
from qlora_studio.core.memory.formula import Peak, peaks
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.layer import widest
from qlora_studio.core.memory.probe_record import ProbeRecord
from qlora_studio.core.memory.resident import Resident, gathered_bytes, resident, travelling_bytes
from qlora_studio.core.memory.setup import MemorySetup, setup_for
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB, bytes_text
from qlora_studio.core.words import say

INSTANT_ERROR_SHARE, PROBED_ERROR_SHARE = 0.06, 0.05
USUAL_CONTEXT_BYTES = 450 * MIB  # 300 to 500 MiB on most cards; measured by the probe where there is one
BETWEEN_CARDS_BYTES = 200 * MIB  # NCCL's buffers, made after the probe: counted by its settings, not measured
_NOTHING_PAGED = say(
    "No tensor of this adapter is large enough to be paged: AdamW that is not paged takes the same and does the same."
)
_CACHE_SHARE, _CACHE_BYTES = 0.1, 64 * MIB  # gaps in the pool, between what comes and goes


def estimate(
    config: RunConfig,
    shape: ModelShape,
    *,
    row_tokens: int | None = None,
    context_bytes: int | None = None,
    gpu: GpuSpec | None = None,
    probe: ProbeRecord | None = None,
) -> Estimate:
    """Return the instant estimate of a run on a model of this shape.

    `row_tokens` is the longest row of the data where that is known; without it rows are as long as `max_length`.
    `gpu` says which kernels and which 16-bit format there are; without it, those of a recent card. `context_bytes` of 0
    is an estimate of the run alone, for no card. `probe` is what a real step on this card taught. Of several cards that
    train together it is what each of them takes: they share the rows, and the base where that is sharded.
    """
    setup = setup_for(config, shape, row_tokens=row_tokens, gpu=gpu)
    context = probe.context_bytes if probe else USUAL_CONTEXT_BYTES if context_bytes is None else context_bytes
    if context and means_several(config.hardware.gpus):
        context += BETWEEN_CARDS_BYTES
    found = estimate_setup(shape, setup, context_bytes=context)
    if config.training.optimizer != AUTO and optimizer_named(setup.optimizer).needs_card and not found.managed_bytes:
        found = replace(found, notes=(*found.notes, _NOTHING_PAGED))
    return _as_probed(found, probe) if probe else found


def _as_probed(found: Estimate, probe: ProbeRecord) -> Estimate:
    """Return an estimate with what torch was seen to reserve beyond it. What is allocated is never touched."""
    extra = max(round(probe.residual_share * found.reserved_bytes), found.allocated_bytes - found.reserved_bytes)
    sizes = {component.key: component.bytes for component in found.components}
    return replace(
        found,
        components=make_components(sizes | {"activations": sizes["activations"] + extra}),
        reserved_bytes=found.reserved_bytes + extra,
        total_bytes=found.total_bytes + extra,
        level="probed",
        error_share=PROBED_ERROR_SHARE,
    )


def with_context(found: Estimate, context_bytes: int) -> Estimate:
    """Return an estimate with the context that was measured on the card, in place of the usual one."""
    sizes = {component.key: component.bytes for component in found.components}
    return replace(
        found,
        components=make_components(sizes | {"context": context_bytes}),
        context_bytes=context_bytes,
        total_bytes=found.total_bytes - found.context_bytes + context_bytes,
    )


def estimate_setup(shape: ModelShape, setup: MemorySetup, *, context_bytes: int | None = None) -> Estimate:
    """Return the instant estimate of a resolved setup."""
    held = resident(shape, setup)
    by_phase = peaks(shape, setup)
    worst = max(by_phase, key=lambda peak: peak.allocated(held))
    allocated = worst.allocated(held)
    cache = round(_CACHE_SHARE * max(peak.activations + peak.logits for peak in by_phase)) + _CACHE_BYTES
    context = USUAL_CONTEXT_BYTES if context_bytes is None else context_bytes
    phases = {"load": held.weights + held.adapter} | {peak.phase: peak.allocated(held) for peak in by_phase}
    return Estimate(
        components=make_components(_components(held, worst, cache) | ({"context": context} if context else {})),
        allocated_bytes=allocated,
        reserved_bytes=allocated + cache,
        managed_bytes=held.managed,
        context_bytes=context,
        total_bytes=allocated + cache + held.managed + context,
        error_share=INSTANT_ERROR_SHARE,
        level="instant",
        peak_phase=worst.phase,
        phases=make_phases(phases),
        notes=notes(shape, setup),
    )


def notes(shape: ModelShape, setup: MemorySetup) -> tuple[str, ...]:
    """Return what the user should know about a number, in sentences."""
    found = []
    if setup.quantization != "none" and shape.expert_parameters:
        size = widest(shape).experts * setup.compute_bytes
        count = max(1, shape.layers - setup.checkpointed_of(shape.layers))
        found.append(
            say(
                "The experts of this mixture are kept in 4 bits; while a layer works, its own stand "
                "in 16 bits, {size} of them",
                size=bytes_text(size),
            )
            + (
                say(", and those of {count} layers at once without gradient checkpointing.", count=count)
                if count > 1
                else "."
            )
        )
    if setup.cards > 1:
        found.append(
            say(
                "The base is shared out over {cards} cards (FSDP). Each gathers {size} of it at a time, and receives "
                "{travels} with every batch.",
                cards=setup.cards,
                size=bytes_text(gathered_bytes(shape, setup)),
                travels=bytes_text(2 * travelling_bytes(shape, setup.cards)),
            )
        )
    if not shape.exact:
        found.append(
            say(
                "The family {family} is not known: it is counted as a Llama would be.",
                family=shape.family or say("of this model"),
            )
        )
    return tuple(found)


def _components(held: Resident, worst: Peak, cache: int) -> dict[str, int]:
    return {
        "weights": held.weights,
        "adapter": held.adapter + worst.gradients,
        "optimizer": held.optimizer + held.managed,
        "activations": held.workspace + worst.activations + cache,
        "logits": worst.logits,
    }
