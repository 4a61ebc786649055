"""What was estimated of a run's memory beside what was measured, phase by phase, as values. Pure; sizes are bytes."""

from dataclasses import dataclass

from qlora_studio.core.memory.estimate import PHASE_LABELS, Estimate, estimate_from_report
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.reports import RunEstimateReported
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say

_LEVELS = {
    "instant": say("by formula"),
    "traced": say("traced"),
    "probed": say("with what a probe taught of this card"),
}


@dataclass(frozen=True)
class PhaseLine:
    """A phase with what it should take and what it took at most, both by torch's count; 0 is not known."""

    label: str
    estimated_bytes: int
    measured_bytes: int
    error_share: float

    @property
    def estimated(self) -> str:
        """The estimate."""
        return bytes_text(self.estimated_bytes) if self.estimated_bytes else "–"

    @property
    def measured(self) -> str:
        """What was measured."""
        return bytes_text(self.measured_bytes) if self.measured_bytes else "–"

    @property
    def difference(self) -> str:
        """By how much the measured is above or below the estimate."""
        return f"{self._share:+.1%}" if self.estimated_bytes and self.measured_bytes else "–"

    @property
    def tone(self) -> str:
        """Warn where more was taken than the estimate's error allows."""
        if not (self.estimated_bytes and self.measured_bytes):
            return "muted"
        return "warn" if self._share > self.error_share else "ok"

    @property
    def _share(self) -> float:
        return self.measured_bytes / self.estimated_bytes - 1


def run_estimate(state: RunState) -> Estimate | None:
    """Return what the run's worker said that it should take; None where it said nothing, as on a processor."""
    reports = [item.report for item in state.reports if isinstance(item, RunEstimateReported)]
    return estimate_from_report(reports[-1]) if reports else None


def phase_lines(state: RunState) -> tuple[PhaseLine, ...]:
    """Return the phases that were measured, in the order in which they come, beside their estimates."""
    found = run_estimate(state)
    estimated = {phase.key: phase.allocated_bytes for phase in found.phases} if found else {}
    share = found.error_share if found else 0.0
    return tuple(
        PhaseLine(label, estimated.get(key, 0), state.memory[key].allocated_bytes, share)
        for key, label in PHASE_LABELS.items()
        if key in state.memory
    )


def memory_text(state: RunState) -> str:
    """Return how the estimate came about, and what the probe before the run took."""
    found, probe = run_estimate(state), state.probe
    parts = []
    if found is not None:
        parts.append(
            say(
                "Estimated {levels}: {total_bytes} of the card in all.",
                levels=_LEVELS[found.level],
                total_bytes=bytes_text(found.total_bytes),
            )
        )
    if probe is not None and probe.reserved_bytes:
        whole = probe.process_bytes or probe.reserved_bytes + probe.context_bytes + probe.managed_bytes
        parts.append(
            say(
                "The probe of its longest rows took {whole}, {allocated_bytes} used.",
                whole=bytes_text(whole),
                allocated_bytes=bytes_text(probe.allocated_bytes),
            )
        )
    return " ".join(parts)
