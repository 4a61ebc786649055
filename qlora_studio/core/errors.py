"""Errors as part of the product: what, where, and what to do, in words; and what the command's exit status says."""

import errno
import signal
import traceback
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from qlora_studio.core.words import say


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field (`training.max_length`), or with the whole where `field` is empty."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ExitCode(IntEnum):
    """Exit codes of `qlora-studio`, each with what it says; docs/COMMANDS.md shows the same table."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """Make a member of its number and its sentence."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "Done"
    ERROR = 1, "An error that has no code of its own"
    USAGE = 2, "The command was written wrongly"
    INVALID_CONFIG = 20, "A setting is wrong or missing"
    MODEL_NOT_FOUND = 21, "The model is not there, or is refused"
    DATA_NOT_FOUND = 22, "The dataset is not there"
    NOT_WRITABLE = 23, "A folder cannot be written"
    DATA_REFUSED = 24, "The dataset is refused"
    RUN_NOT_FOUND = 25, "The folder is no run"
    RUN_BUSY = 26, "Another worker is at work in the run's folder"
    OUT_OF_MEMORY = 27, "Not enough memory"
    DISK_FULL = 28, "The disk is full"
    WORKER_DIED = 29, "The worker died"
    DAMAGED = 30, "Something on the disk is damaged, or the base or dataset is not the one that the run began with"
    NOT_VERIFIED = 31, "An export did not pass its verification"
    DOES_NOT_FIT = 32, "The run does not fit the card"
    NO_DISPLAY = 33, "There is no display for the window"
    DOCTOR_FOUND_PROBLEMS = 34, "The doctor found something that keeps training from working"
    HUB_REFUSED = 35, "The hub refused, was not reached, or nobody is logged in there"
    NOT_AT_WORK = 36, "No worker is at work in the run's folder, or it ended before it could do what was asked"
    NO_ANSWER = 37, "The worker has not answered yet"
    NO_CARD = 38, "The card that is to compute is not there, or PyTorch cannot use it"
    NOT_TRUSTED = 39, "The run came from elsewhere, or was changed, and is not trusted"
    NOT_REACHED = 40, "The computer that a run is on was not reached, refused, or has no scheduler that takes it"
    INTERRUPTED = 130, "Interrupted; the sentence says what is safe, and what goes on"


class FailureKind(StrEnum):
    """What went wrong, as a stable word for programs: each with what it means and the exit code that goes with it.

    A word of a later version, read from a run folder, is an `ERROR`.
    """

    exit_code: ExitCode
    meaning: str

    def __new__(cls, word: str, exit_code: ExitCode = ExitCode.ERROR, meaning: str = "") -> "FailureKind":
        """Make a member of its word, exit code and sentence."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.exit_code = exit_code
        member.meaning = meaning
        return member

    ERROR = "error", ExitCode.ERROR, "Something that nobody foresaw."
    INTERNAL = "internal", ExitCode.ERROR, "A fault of the program's own, not of a run."
    USAGE = "usage", ExitCode.USAGE, "The command was written wrongly."
    INVALID_CONFIG = "invalid_config", ExitCode.INVALID_CONFIG, "A setting is wrong or missing."
    NEWER_VERSION = "newer_version", ExitCode.ERROR, "A newer QLoRA Studio wrote this."
    MODEL_NOT_FOUND = "model_not_found", ExitCode.MODEL_NOT_FOUND, "The model is not there."
    MODEL_REFUSED = "model_refused", ExitCode.MODEL_NOT_FOUND, "The model is one that is not opened or not supported."
    DATA_NOT_FOUND = "data_not_found", ExitCode.DATA_NOT_FOUND, "The dataset is not there."
    DATA_REFUSED = "data_refused", ExitCode.DATA_REFUSED, "The dataset cannot be read or trained."
    DATA_CHOICE = "data_choice", ExitCode.DATA_REFUSED, "The dataset has several parts: one must be chosen."
    NOT_READABLE = "not_readable", ExitCode.ERROR, "A file cannot be read."
    NOT_WRITABLE = "not_writable", ExitCode.NOT_WRITABLE, "A folder cannot be written."
    RUN_NOT_FOUND = "run_not_found", ExitCode.RUN_NOT_FOUND, "The folder is no run, or is gone."
    NOT_TRUSTED = "not_trusted", ExitCode.NOT_TRUSTED, "The folder may give no orders: nobody here made or trusted it."
    RUN_BUSY = "run_busy", ExitCode.RUN_BUSY, "Another worker is at work in the folder."
    NOT_AT_WORK = "not_at_work", ExitCode.NOT_AT_WORK, "No worker is there to do what is asked."
    NO_ANSWER = "no_answer", ExitCode.NO_ANSWER, "The worker was asked and has not answered yet."
    ALREADY_FINISHED = "already_finished", ExitCode.ERROR, "The run is finished: there is nothing to resume."
    OUT_OF_MEMORY = "out_of_memory", ExitCode.OUT_OF_MEMORY, "The card had not enough memory."
    NO_CARD = "no_card", ExitCode.NO_CARD, "The card that a run is to be trained on is not there."
    CARD_UNUSABLE = "card_unusable", ExitCode.NO_CARD, "There is a card, and the installed libraries cannot use it."
    CARD_LOST = "card_lost", ExitCode.ERROR, "The card stopped answering."
    MAPPING_FAILED = "mapping_failed", ExitCode.ERROR, "The card's driver could not map memory as it was needed."
    NON_FINITE_LOSS = "non_finite_loss", ExitCode.ERROR, "The loss was no number any more."
    DISK_FULL = "disk_full", ExitCode.DISK_FULL, "The disk is full, or will be."
    WORKER_DIED = "worker_died", ExitCode.WORKER_DIED, "The worker ended without a word."
    DAMAGED = "damaged", ExitCode.DAMAGED, "Something on the disk is not what was written there."
    DAMAGED_CHECKPOINT = (
        "damaged_checkpoint",
        ExitCode.DAMAGED,
        "A checkpoint reads back otherwise than it was written.",
    )
    FINGERPRINT_MISMATCH = (
        "fingerprint_mismatch",
        ExitCode.DAMAGED,
        "The base or the dataset is not the one that the run began with.",
    )
    NOT_VERIFIED = "not_verified", ExitCode.NOT_VERIFIED, "An export is not proven to be right."
    DOES_NOT_FIT = "does_not_fit", ExitCode.DOES_NOT_FIT, "The run does not fit the card."
    HUB_LOGIN = "hub_login", ExitCode.HUB_REFUSED, "Nobody is logged in at the hub, or may not do this there."
    HUB_REFUSED = "hub_refused", ExitCode.HUB_REFUSED, "The hub refused, or was not reached."
    OFFLINE = "offline", ExitCode.HUB_REFUSED, "The network is switched off, by the settings or the environment."
    NOT_REACHED = "not_reached", ExitCode.NOT_REACHED, "The computer that the run is on was not reached, or refused."
    TOOL_MISSING = "tool_missing", ExitCode.ERROR, "A program that this needs is not installed."
    TRACER_OUTDATED = "tracer_outdated", ExitCode.ERROR, "The memory tracer does not know this version of a library."
    NO_DISPLAY = "no_display", ExitCode.NO_DISPLAY, "There is no display for the window."
    INTERRUPTED = "interrupted", ExitCode.INTERRUPTED, "It was ended by the user."

    @classmethod
    def _missing_(cls, value: object) -> "FailureKind | None":
        return cls.ERROR if isinstance(value, str) else None


class StudioError(Exception):
    """An error that a person reads. `kind` is a stable word for programs; `advice` says what to do.

    `detail` is for the fold behind "details": a traceback, a library's own message.
    """

    def __init__(
        self, message: str, *, kind: FailureKind = FailureKind.ERROR, advice: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.advice = advice
        self.detail = detail


class NewerVersion(StudioError):
    """What was read is of a version whose meaning is not known here."""

    def __init__(self) -> None:
        super().__init__(
            say("This run was made by a newer QLoRA Studio."),
            kind=FailureKind.NEWER_VERSION,
            advice=say("Update QLoRA Studio to open it; nothing in it was touched."),
        )


class InvalidRunConfig(StudioError):
    """A run config with problems; all of them at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Correct the settings named here."),
        )
        self.problems = problems


_NOT_THERE = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # by the disk, by a quota, by a limit for one file


def unforeseen(error: Exception) -> StudioError:
    """Return an exception that nobody expected in words: what the system refused, or a fault of the program itself."""
    if isinstance(error, StudioError):
        return error
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        kind = FailureKind.DISK_FULL if error.errno in FULL_DISK else FailureKind.ERROR
        kind = FailureKind.NOT_READABLE if error.errno in _NOT_THERE else kind
        advice = advice_for(kind, "") if kind == FailureKind.DISK_FULL else ""
        return StudioError(
            f"{named}{error.strerror or str(error) or type(error).__name__}.", kind=kind, advice=advice, detail=detail
        )
    return StudioError(
        say(
            "Something went wrong in QLoRA Studio itself: {what}.",
            what=f"{type(error).__name__}: {error}".rstrip(": ."),
        ),
        kind=FailureKind.INTERNAL,
        advice=say("Runs are not touched by it. Please report this with the details."),
        detail=detail,
    )


_ANYTHING, _TRAINING = "", "train"


def advice_for(kind: FailureKind, job: str) -> str:
    """Return what to do about a failure of a job of some kind, or of any where it is empty: a chat has no batch."""
    known = _advice(kind)
    return known.get(job, known[_ANYTHING])


def ending_in_words(code: int) -> str:
    """Return what an exit code, or a signal as a negative number, says."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = say("signal {number}", number=-code)
        why = _signal_words(name)
        if not why:
            return say("the worker was ended by {signal}", signal=name)
        return say("the worker was ended by {signal}: {why}", signal=name, why=why)
    if code == 0:
        return say("the worker ended without saying how")
    why = _code_words(code)
    if not why:
        return say("the worker ended with exit code {code}", code=code)
    return say("the worker ended with exit code {code}: {why}", code=code, why=why)


# These are said when they are asked for, not when this module is imported: no language is chosen by then.


def _advice(kind: FailureKind) -> dict[str, str]:
    match kind:
        case FailureKind.OUT_OF_MEMORY:
            return {
                _TRAINING: say(
                    "Take a smaller batch or max length (Fit to my GPU proposes one), or close other programs on the "
                    "card."
                ),
                "chat": say(
                    "Close other programs that use memory, begin a new conversation, ask for shorter answers, or "
                    "export a GGUF of few bits (q4_K_M) and ask that: a llama.cpp computes with it as it is."
                ),
                "export": say(
                    "Close other programs that use memory, or export without an importance matrix, for which the "
                    "whole model is loaded."
                ),
                _ANYTHING: say("Close other programs that use memory, and try again."),
            }
        case FailureKind.CARD_LOST:
            return {
                _TRAINING: say(
                    "Resume from the last safe checkpoint. If it happens again, restart the computer and check heat "
                    "and power."
                ),
                _ANYTHING: say("Try again. If it happens again, restart the computer and check heat and power."),
            }
        case FailureKind.DISK_FULL:
            return {
                _TRAINING: say("Free some space, then press Resume: the last safe checkpoint is kept."),
                _ANYTHING: say("Free some space, and try again."),
            }
        case FailureKind.WORKER_DIED:
            return {
                _TRAINING: say(
                    "A run can be resumed from its last safe checkpoint; worker.log in its folder says more."
                ),
                _ANYTHING: say("Try again; worker.log in its folder says more."),
            }
        case FailureKind.ERROR:
            return {
                _TRAINING: say(
                    "The details and worker.log in the run's folder say more; a run can be resumed from its last safe "
                    "checkpoint."
                ),
                _ANYTHING: say("The details and worker.log in its folder say more."),
            }
    raise KeyError(kind)


def _signal_words(name: str) -> str:
    return {
        "SIGKILL": say("most often the system did that for want of memory, or somebody ended it by hand"),
        "SIGTERM": say("somebody asked it to end, or the computer was shutting down"),
        "SIGINT": say("it was interrupted from the keyboard"),
        "SIGHUP": say("the session it belonged to was closed"),
        "SIGSEGV": say("a library or a driver broke; worker.log has its last words"),
        "SIGBUS": say("a file was cut short under it, or memory failed"),
        "SIGILL": say("a library uses instructions that this processor does not have"),
        "SIGFPE": say("a library divided by zero"),
        "SIGABRT": say("a library gave up; worker.log has its last words"),
        "SIGXFSZ": say("a file grew beyond the limit that is set for it"),
    }.get(name, "")


def _code_words(code: int) -> str:
    return {
        int(ExitCode.ERROR): say(
            "a library ended it, as those of the card do on an error; worker.log has its last words"
        ),
        int(ExitCode.RUN_BUSY): say("another worker is at work in its folder"),
        int(ExitCode.NOT_WRITABLE): say("it may not write to its folder"),
        int(ExitCode.RUN_NOT_FOUND): say("its folder is gone"),
        int(ExitCode.INTERRUPTED): say("it was interrupted from the keyboard"),
    }.get(code, "")
