"""What went wrong, in words: an exception of any library as a `Failed` with a kind, one sentence and advice."""

import errno
import re
import traceback

from qlora_studio.core.run.events import Failed
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


def failure_of(error: BaseException) -> Failed:
    """Return the `Failed` that tells of an exception nobody expected."""
    kind, message, advice = _words(error)
    return Failed(kind=kind, message=message, advice=advice, detail="".join(traceback.format_exception(error)))


def _words(error: BaseException) -> tuple[str, str, str]:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if is_out_of_memory(error):
        return (
            "out_of_memory",
            "There was not enough memory on the card.",
            "Take a smaller batch or max length (Fit to my GPU proposes one), or close other programs on the card.",
        )
    if is_card_lost(error):
        return (
            "card_lost",
            f"The graphics card stopped answering: {first_line}",
            "Resume from the last safe checkpoint. If it happens again, restart the computer and check heat and power.",
        )
    if is_disk_full(error):
        return "disk_full", "The disk is full.", "Free some space, then press Resume: the last safe checkpoint is kept."
    if isinstance(error, DamagedCheckpoint):
        return (
            "damaged_checkpoint",
            f"A checkpoint reads back otherwise than it was written: {first_line}.",
            "This drive or this computer's memory may be failing: check both. Earlier checkpoints are kept.",
        )
    if isinstance(error, PermissionError):
        return "not_writable", f"No permission: {first_line}", "Choose a folder that you may write to."
    return (
        "error",
        f"{type(error).__name__}: {first_line}",
        "The details and worker.log in the run's folder say more; a run can be resumed from its last safe checkpoint.",
    )
