"""What libraries say where the card has no memory left, or is lost: in an exception, or as a worker's last words."""

import re

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
# Calls of the driver itself are made for expandable segments alone; once one has failed, torch's own books are wrong.
_MAPPING_FAILED = re.compile(r"cuda driver error|handles_\.at\(i\)|expandable_?segment", re.IGNORECASE)


def says_out_of_memory(text: str) -> bool:
    """Whether the card (or the machine) had no memory left, in any of the libraries' spellings."""
    return bool(_OUT_OF_MEMORY.search(text))


def says_card_lost(text: str) -> bool:
    """Whether the card's context is broken for the process that this is told by."""
    return bool(_CARD_LOST.search(text))


def says_mapping_failed(text: str) -> bool:
    """Whether the driver could not map memory into an expandable segment, for another reason than want of memory."""
    return bool(_MAPPING_FAILED.search(text)) and not says_out_of_memory(text)
