"""What a verification finds, check by check."""

from dataclasses import dataclass, field

from qlora_studio.core.run.reports import BasesReport, CheckOutcome, ComparedAnswer, EndsReport, VerificationReport


@dataclass
class Verification:
    """What was found so far; the fields are those of `VerificationReport`."""

    format: str
    checks: list[CheckOutcome] = field(default_factory=list)
    losses: dict[str, float | None] = field(default_factory=dict)
    answers: list[ComparedAnswer] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    base_weights: str = ""
    checkpoint: str = ""
    divergence: float | None = None
    divergence_as_trained: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    way: str = ""
    bases: BasesReport | None = None
    ends: EndsReport | None = None

    @property
    def verified(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def add(self, name: str, passed: bool, message: str) -> None:
        """Add a check's outcome."""
        self.checks.append(CheckOutcome(name=name, passed=passed, message=message))

    def report(self, path: str) -> VerificationReport:
        """Return what was found of the export at `path`."""
        return VerificationReport(**vars(self), verified=self.verified, path=path)
