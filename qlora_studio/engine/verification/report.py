"""What a verification finds, check by check."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Verification:
    """What was found. Losses are mean nats per trained token of the held-out rows, None where not measured."""

    format: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    losses: dict[str, float | None] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(check["passed"] for check in self.checks)

    def add(self, name: str, passed: bool, message: str) -> None:
        """Add a check's outcome."""
        self.checks.append({"name": name, "passed": passed, "message": message})

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verified": self.verified,
            "format": self.format,
            "checks": self.checks,
            "losses": self.losses,
            "answers": self.answers,
            **self.facts,
        }
