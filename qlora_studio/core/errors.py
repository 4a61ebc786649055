"""Errors as part of the product: what, where, and what to do, in words; and what the command's exit status says."""

from dataclasses import dataclass
from enum import IntEnum


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


class ExitCode(IntEnum):
    """Exit codes of `qlora-studio`."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INVALID_CONFIG = 20
    MODEL_NOT_FOUND = 21
    DATA_NOT_FOUND = 22
    NOT_WRITABLE = 23
    DATA_REFUSED = 24
    RUN_NOT_FOUND = 25
    RUN_BUSY = 26
    OUT_OF_MEMORY = 27
    DISK_FULL = 28
    WORKER_DIED = 29
    DAMAGED = 30
    NOT_VERIFIED = 31
    DOES_NOT_FIT = 32
    NO_DISPLAY = 33
    DOCTOR_FOUND_PROBLEMS = 34
    HUB_REFUSED = 35
    INTERRUPTED = 130


_BY_KIND = {
    "usage": ExitCode.USAGE,
    "invalid_config": ExitCode.INVALID_CONFIG,
    "model_not_found": ExitCode.MODEL_NOT_FOUND,
    "model_refused": ExitCode.MODEL_NOT_FOUND,
    "data_not_found": ExitCode.DATA_NOT_FOUND,
    "data_refused": ExitCode.DATA_REFUSED,
    "data_choice": ExitCode.DATA_REFUSED,
    "not_writable": ExitCode.NOT_WRITABLE,
    "run_not_found": ExitCode.RUN_NOT_FOUND,
    "run_busy": ExitCode.RUN_BUSY,
    "out_of_memory": ExitCode.OUT_OF_MEMORY,
    "disk_full": ExitCode.DISK_FULL,
    "worker_died": ExitCode.WORKER_DIED,
    "damaged": ExitCode.DAMAGED,
    "damaged_checkpoint": ExitCode.DAMAGED,
    "fingerprint_mismatch": ExitCode.DAMAGED,
    "not_verified": ExitCode.NOT_VERIFIED,
    "does_not_fit": ExitCode.DOES_NOT_FIT,
    "hub_login": ExitCode.HUB_REFUSED,
    "hub_refused": ExitCode.HUB_REFUSED,
    "no_display": ExitCode.NO_DISPLAY,
    "interrupted": ExitCode.INTERRUPTED,
}


def exit_code_for(kind: str) -> ExitCode:
    """Return the exit code for the `kind` of a StudioError or of a Failed event."""
    return _BY_KIND.get(kind, ExitCode.ERROR)
