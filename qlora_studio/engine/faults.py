"""What went wrong, in words, and getting over it in a new process: CUDA errors are sticky, and memory comes back only
when a process ends."""

import errno
import os
import re
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.advice import advice_for
from qlora_studio.core.run.events import Failed, Recovering
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_state import RunState
from qlora_studio.storage.runs.checkpoint_folder import DamagedCheckpoint

# Spellings of torch, CUDA's runtime and driver, cuBLAS, cuDNN, bitsandbytes, Triton, C++, Linux and Windows. cuBLAS
# says "not initialized" where its workspace found no memory; the allocator's own message fails on a broken NVML.
_OUT_OF_MEMORY = re.compile(
    r"out[ _]of[ _]memory|cublas_status_(alloc_failed|not_initialized)|cudnn_status_(alloc_failed|not_initialized)|"
    r"cudnn_status_internal_error_(host|device)_allocation_failed|"
    r"failed to allocate|can't allocate memory|cannot allocate memory|not enough memory|insufficient memory|"
    r"cudaerrormemoryallocation|bad_alloc|unable to allocate|nvml_success == .*cudacachingallocator",
    re.IGNORECASE,
)
_COMPUTERS_MEMORY = re.compile(r"alloc_cpu|CPUAllocator|bad_alloc|Errno 12\]|for an array with shape", re.IGNORECASE)
_CARD_LOST = re.compile(
    r"unspecified launch failure|(illegal|invalid) memory access|device-side assert|gpu is lost|fallen off the bus|"
    r"cuda error: unknown error|cuda unknown error|ecc error|uncorrectable ecc|driver shutting down|"
    r"no cuda-capable device|misaligned address|illegal instruction|invalid program counter|hardware stack error|"
    r"invalid address space|launch timed out|unspecified driver error|"
    r"device\(s\) is/are busy or unavailable|system not yet initialized|nvml_error_gpu_is_lost|"
    r"(cublas|cudnn|cusparse|cusolver)_status_(execution_failed|internal_error|mapping_error)|"
    r"cudaerror(launchfailure|illegaladdress|assert|deviceunavailable|devicesunavailable|launchtimeout|eccuncorrectable"
    r"|hardwarestackerror|illegalinstruction|misalignedaddress|invalidpc|invalidaddressspace|unknown)\b",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(
    r"no space left on device|file too large|disk quota exceeded|PytorchStreamWriter failed writing", re.IGNORECASE
)
RECOVERABLE = (FailureKind.OUT_OF_MEMORY, FailureKind.CARD_LOST)
_MOST_HALVINGS = 2
_MOST_RESTARTS = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card (or the machine) had no memory left, in any of the libraries' spellings."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or bool(_OUT_OF_MEMORY.search(str(error)))


def is_card_lost(error: BaseException) -> bool:
    """Whether the card's context is broken for this process: nothing may be saved from it any more."""
    return bool(_CARD_LOST.search(str(error)))


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, by disk, quota or limit; safetensors and torch say it in words."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return (isinstance(error, OSError) and error.errno in codes) or bool(_DISK_FULL.search(str(error)))


def failure_of(error: BaseException, job: str) -> Failed:
    """Return the `Failed` that tells of an exception nobody expected, in a job of some kind."""
    kind, message, advice = _words(error, job)
    return Failed(kind=kind, message=message, advice=advice, detail="".join(traceback.format_exception(error)))


def _words(error: BaseException, job: str) -> tuple[FailureKind, str, str]:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if is_out_of_memory(error):
        kind = FailureKind.OUT_OF_MEMORY
        return kind, f"There was not enough memory {_place_of_memory(error)}.", advice_for(kind, job)
    if is_card_lost(error):
        kind = FailureKind.CARD_LOST
        return kind, f"The graphics card stopped answering: {first_line}", advice_for(kind, job)
    if is_disk_full(error):
        return FailureKind.DISK_FULL, "The disk is full.", advice_for(FailureKind.DISK_FULL, job)
    if isinstance(error, DamagedCheckpoint):
        return (
            FailureKind.DAMAGED_CHECKPOINT,
            f"A checkpoint reads back otherwise than it was written: {first_line}.",
            "This drive or this computer's memory may be failing: check both. Earlier checkpoints are kept.",
        )
    if isinstance(error, PermissionError):
        return FailureKind.NOT_WRITABLE, f"No permission: {first_line}", "Choose a folder that you may write to."
    message = f"{type(error).__name__}: {first_line}"
    return FailureKind.ERROR, message, advice_for(FailureKind.ERROR, job)


def _place_of_memory(error: BaseException) -> str:
    is_of_computer = isinstance(error, MemoryError) or _COMPUTERS_MEMORY.search(str(error))
    return "in this computer" if is_of_computer else "on the card"


@dataclass(frozen=True)
class BatchPlan:
    """How an effective batch is made up."""

    batch_size: int
    gradient_accumulation: int

    def halved(self) -> "BatchPlan":
        """Return the plan with half the rows on the card at once and the same rows in a step, in the same order."""
        return BatchPlan(self.batch_size // 2, self.gradient_accumulation * 2)


def batch_plan(config: RunConfig, state: RunState) -> BatchPlan:
    """Return the batch of the config, as the last recovery left it."""
    if state.recoveries:
        last = state.recoveries[-1]
        return BatchPlan(last.batch_size, last.gradient_accumulation)
    return BatchPlan(config.training.batch_size, config.training.gradient_accumulation)


def with_plan(config: RunConfig, plan: BatchPlan) -> RunConfig:
    """Return the config with another make-up of the same effective batch."""
    update = {"batch_size": plan.batch_size, "gradient_accumulation": plan.gradient_accumulation}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def recovery_from(failed: Failed, config: RunConfig, state: RunState) -> Recovering | None:
    """Return how to get over a failure, or None where that was tried often enough, or cannot help.

    Out of memory: half the batch, twice the accumulation, at most twice. A lost card: once more as it was.
    """
    plan = batch_plan(config, state)
    before = sum(event.kind == failed.kind for event in state.recoveries)
    if failed.kind == FailureKind.OUT_OF_MEMORY and before < _MOST_HALVINGS and plan.batch_size % 2 == 0:
        plan = plan.halved()
        message = (
            f"Out of memory: the batch is halved to {plan.batch_size}, accumulation doubled. The steps stay the same."
        )
    elif failed.kind == FailureKind.CARD_LOST and before < _MOST_RESTARTS:
        message = "The card stopped answering: the run goes on from its last safe checkpoint."
    else:
        return None
    return Recovering(
        kind=failed.kind,
        message=message,
        step=state.step,
        batch_size=plan.batch_size,
        gradient_accumulation=plan.gradient_accumulation,
    )


def start_again(path: str) -> None:
    """Replace this process by a fresh worker for the same folder; nothing of the card's context survives.

    On Windows, which cannot replace a process, the fresh worker is a new one and this one ends.
    """
    command = child_process.python("-m", "qlora_studio", "worker", str(Path(path).absolute()))
    os.environ.pop("QLORA_STUDIO_COMMANDS_FROM", None)
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        import subprocess

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
            child_process.start(command, creationflags=flags)
        os._exit(0)
    os.closerange(3, 65536)  # the driver's files too: else the old context would hold the card's memory
    child_process.become(command)
