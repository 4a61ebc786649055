"""Errors as part of the product: what, where, and what to do, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field (`training.max_length`), or with the whole where `field` is empty."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class StudioError(Exception):
    """An error that a person reads. `kind` is a stable word for programs; `advice` says what to do.

    `detail` is for the fold behind "details": a traceback, a library's own message.
    """

    def __init__(self, message: str, *, kind: str = "error", advice: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.advice = advice
        self.detail = detail


class InvalidRunConfig(StudioError):
    """A run config with problems; all of them at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            kind="invalid_config",
            advice="Correct the settings named here.",
        )
        self.problems = problems
