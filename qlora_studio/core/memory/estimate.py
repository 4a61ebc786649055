"""What an estimate of graphics memory is: a number with its error, and what it is made of. Sizes are bytes."""

from dataclasses import dataclass

from qlora_studio.core.run.reports import EstimateReport, Level
from qlora_studio.core.words import say

COMPONENT_LABELS = {
    "weights": say("Weights"),
    "adapter": say("Adapter"),
    "optimizer": say("Optimizer"),
    "activations": say("Activations"),
    "logits": say("Logits"),
    "context": say("CUDA context"),
}
PHASE_LABELS = {
    "load": say("Loading"),
    "forward": say("Forward"),
    "backward": say("Backward"),
    "optimizer": say("Optimizer step"),
    "evaluation": say("Evaluation"),
    "save": say("Saving"),
}


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the total, by kind. The components of an estimate add up to its `total_bytes`."""

    key: str
    label: str
    bytes: int


@dataclass(frozen=True, slots=True)
class PhasePeak:
    """The most that is allocated at once during a phase."""

    key: str
    label: str
    allocated_bytes: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How much graphics memory a run takes at its worst moment.

    `allocated` is what torch's allocator counts, `reserved` what it holds from the driver, `managed` the optimizer's
    paged memory, which torch does not count and NVML does; `total` is what NVML shows of the process: reserved, managed
    and the CUDA context. `error_share` is the error to expect, of the total.
    """

    components: tuple[Component, ...]
    allocated_bytes: int
    reserved_bytes: int
    managed_bytes: int
    context_bytes: int
    total_bytes: int
    error_share: float
    level: Level
    peak_phase: str
    phases: tuple[PhasePeak, ...]
    notes: tuple[str, ...] = ()

    def component(self, key: str) -> int:
        """Return the bytes of one component, 0 where there is none."""
        return sum(component.bytes for component in self.components if component.key == key)

    def to_report(self) -> EstimateReport:
        """Return the estimate for `--json` and for an event."""
        return EstimateReport(
            level=self.level,
            total_bytes=self.total_bytes,
            error_share=self.error_share,
            allocated_bytes=self.allocated_bytes,
            reserved_bytes=self.reserved_bytes,
            managed_bytes=self.managed_bytes,
            context_bytes=self.context_bytes,
            peak_phase=self.peak_phase,
            components={component.key: component.bytes for component in self.components},
            phases={phase.key: phase.allocated_bytes for phase in self.phases},
            notes=self.notes,
        )


def estimate_from_report(report: EstimateReport) -> Estimate:
    """Return the estimate that `to_report` wrote."""
    return Estimate(
        **report.model_dump(exclude={"components", "phases"}),
        components=make_components(report.components),
        phases=make_phases(report.phases),
    )


def make_components(sizes: dict[str, int]) -> tuple[Component, ...]:
    """Return the components of `sizes` by key, in the order of the stacked bar."""
    return tuple(Component(key, label, sizes[key]) for key, label in COMPONENT_LABELS.items() if key in sizes)


def make_phases(peaks: dict[str, int]) -> tuple[PhasePeak, ...]:
    """Return the peaks by phase, in the order in which phases come."""
    return tuple(PhasePeak(key, label, peaks[key]) for key, label in PHASE_LABELS.items() if key in peaks)
