"""What went wrong, in words. How a run gets over it is core/run/recovery's."""

import os
import re
import traceback

from qlora_studio.core.errors import FULL_DISK, FailureKind, advice_for
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.fault_texts import says_card_lost, says_mapping_failed, says_out_of_memory
from qlora_studio.storage.runs.checkpoint_folder import DamagedCheckpoint

_COMPUTERS_MEMORY = re.compile(r"alloc_cpu|CPUAllocator|bad_alloc|Errno 12\]|for an array with shape", re.IGNORECASE)
_DISK_FULL = re.compile(
    r"no space left on device|file too large|disk quota exceeded|PytorchStreamWriter failed writing"
    r"|inline_container\S+ \. unexpected pos|basic_ios::clear: iostream error",  # torch, of a file that took less
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card (or the machine) had no memory left, in any of the libraries' spellings."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or says_out_of_memory(str(error))


def is_card_lost(error: BaseException) -> bool:
    """Whether the card's context is broken for this process: nothing may be saved from it any more."""
    return says_card_lost(str(error))


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, by disk, quota or limit; safetensors and torch say it in words."""
    return (isinstance(error, OSError) and error.errno in FULL_DISK) or bool(_DISK_FULL.search(str(error)))


def expands_segments() -> bool:
    """Whether torch's allocator is told to map memory as it grows."""
    told = (os.environ.get(name, "") for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"))
    return any("expandable_segments:true" in setting.lower() for setting in told)


def failure_of(error: BaseException, job: str) -> Failed:
    """Return the `Failed` that tells of an exception nobody expected, in a job of some kind."""
    kind, message, advice = _words(error, job)
    return Failed(kind=kind, message=message, advice=advice, detail="".join(traceback.format_exception(error)))


def _words(error: BaseException, job: str) -> tuple[FailureKind, str, str]:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if is_out_of_memory(error):
        kind = FailureKind.OUT_OF_MEMORY
        return kind, f"There was not enough memory {_place_of_memory(error)}.", advice_for(kind, job)
    if expands_segments() and says_mapping_failed(str(error)):
        return (
            FailureKind.MAPPING_FAILED,
            f"The card's driver cannot map memory as it is needed: {first_line}",
            "Update the driver, or set PYTORCH_ALLOC_CONF=expandable_segments:False before starting QLoRA Studio.",
        )
    if is_card_lost(error):
        kind = FailureKind.CARD_LOST
        return kind, f"The graphics card stopped answering: {first_line}", advice_for(kind, job)
    if "no kernel image is available" in str(error):
        return (
            FailureKind.CARD_UNUSABLE,
            "There is a card here that cannot be used: the installed PyTorch has no kernels for it.",
            "Install PyTorch's newest build. For a card older than the RTX 20 series there is none: start QLoRA Studio "
            "with CUDA_VISIBLE_DEVICES set to nothing, and the processor is used.",
        )
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
