"""Judges how a run's worker ended that its supervisor saw end: whether it is to be started again, which is then told.

A process of its own, for it reads the run's events; the supervisor itself stays small.
"""

import os
import signal
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError, ending_in_words
from qlora_studio.core.run import machines
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Failed, Recovering
from qlora_studio.core.run.fault_texts import says_card_lost, says_out_of_memory
from qlora_studio.core.run.recovery import recovery_from
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

# A library or a driver broke. Signals that a person or the system sends are no faults: SIGKILL, SIGTERM and their kind.
_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")
# Of Windows: access violation, page error, illegal instruction, stack overflow, heap corruption, fail fast, abort().
_STATUS = (0xC0000005, 0xC0000006, 0xC000001D, 0xC00000FD, 0xC0000374, 0xC0000409, 3)
_MOST_WORDS = 300


def recover(path: str, code: int, log_from: int) -> int:
    """Tell `Recovering` where the worker that ended with `code` is to be started again; return AGAIN then.

    What worker.log says from `log_from` on is its own.
    """
    folder = RunFolder(path)
    if os.environ.get(machines.VARIABLE):  # the others ended with it, and would not be there any more
        return ExitCode.OK
    try:
        if (recovering := _recovery(folder, code, log_from)) is None:
            return ExitCode.OK
        with MessageLogWriter(folder.events_path) as log:
            log.append(recovering, sync=True)
    except (StudioError, OSError):  # what cannot be read or told is not tried again
        return ExitCode.ERROR
    return child_process.AGAIN


def _recovery(folder: RunFolder, code: int, log_from: int) -> Recovering | None:
    state = folder.state()
    if not is_fault(code) or state.phase.is_over or state.phase in (Phase.NEW, Phase.RECOVERING):
        return None
    words = ending_in_words(code).partition(":")[0]
    last_words = _last_words(folder.log_path, log_from) if code > 0 else ""
    if last_words:
        words = f'{words} and said "{last_words}"'
    failed = Failed(kind=_kind(last_words), message=f"{words[0].upper()}{words[1:]}")
    return recovery_from(failed, folder.config(), state)


def is_fault(code: int) -> bool:
    """Whether a process that ended so without a word met a fault: a signal of its own, or a library's `exit(1)`."""
    if code < 0:
        return any(getattr(signal, name, 0) == -code for name in _SIGNALS)
    return code in (ExitCode.ERROR, *_STATUS)


def _kind(last_words: str) -> FailureKind:
    if says_out_of_memory(last_words):
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.CARD_LOST if says_card_lost(last_words) else FailureKind.WORKER_DIED


def _last_words(log: Path, begin: int) -> str:
    """Return the last line that the worker printed: a library says there why it ends the process."""
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, 2) - 8 * _MOST_WORDS))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:_MOST_WORDS] for line in reversed(lines) if line.strip()), "")
