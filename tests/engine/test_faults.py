"""Every library's way of saying that memory is out, or that the card is gone, is known for what it is."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from qlora_studio.core.errors import FailureKind, advice_for
from qlora_studio.core.run.job import Job
from qlora_studio.engine.faults import failure_of
from qlora_studio.engine.worker import can_expand_segments
from qlora_studio.storage.runs.checkpoint_folder import DamagedCheckpoint

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.78 GiB of which 1.1 GiB is free.",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "CUDA driver error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    "cudaErrorMemoryAllocation: the API call failed because it was unable to allocate enough memory",
    "Error out of memory at line 534 in file /src/csrc/ops.cu",
    "Triton Error [CUDA]: out of memory",
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1090',
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "[enforce fail at alloc_cpu.cpp:80] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    "[Errno 12] Cannot allocate memory",
    "std::bad_alloc",
    "Unable to allocate 2.91 GiB for an array with shape (781250000,) and data type float32",
    "HIP out of memory. Tried to allocate 20.00 MiB",
)
CARD_LOST = (
    "CUDA error: unspecified launch failure",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: misaligned address",
    "CUDA error: invalid program counter",
    "CUDA error: hardware stack error",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: unknown error",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
    "CUDA error: driver shutting down",
    "CUDA error: no CUDA-capable device is detected",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`",
    "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cudaErrorLaunchFailure",
    "GPU is lost.  Reboot the system to recover this GPU",
    "The GPU has fallen off the bus",
)
OTHER = (
    "mat1 and mat2 shapes cannot be multiplied (4x64 and 128x64)",
    "expected scalar type BFloat16 but found Float",
    "CUDA error: invalid argument",
    "index 5 is out of bounds for dimension 0 with size 5",
)


@pytest.mark.parametrize("words", OUT_OF_MEMORY)
def test_memory_that_is_out_is_known_in_any_spelling(words: str) -> None:
    assert failure_of(RuntimeError(words), "train").kind == "out_of_memory"


@pytest.mark.parametrize("words", CARD_LOST)
def test_a_card_that_is_gone_is_known_in_any_spelling(words: str) -> None:
    assert failure_of(RuntimeError(words), "train").kind == "card_lost"


@pytest.mark.parametrize("words", OTHER)
def test_an_error_of_another_kind_is_taken_for_neither(words: str) -> None:
    assert failure_of(RuntimeError(words), "train").kind == "error"


@pytest.mark.parametrize("job", [kind.model_fields["kind"].default for kind in get_args(Job)])
@pytest.mark.parametrize("words", [OUT_OF_MEMORY[0], CARD_LOST[0], OTHER[0], "No space left on device"])
def test_only_a_training_run_is_told_of_batches_and_checkpoints(words: str, job: str) -> None:
    """Also what is advised where the worker said nothing any more."""
    for advice in (failure_of(RuntimeError(words), job).advice, advice_for(FailureKind.WORKER_DIED, job)):
        assert bool(re.search("batch|checkpoint|resume|max length", advice, re.IGNORECASE)) is (job == "train"), advice


def test_a_card_that_pytorch_has_no_kernels_for_is_told_as_unusable() -> None:
    failed = failure_of(RuntimeError("CUDA error: no kernel image is available for execution on the device"), "chat")

    assert failed.kind == FailureKind.CARD_UNUSABLE
    assert "CUDA_VISIBLE_DEVICES" in failed.advice


def test_it_is_said_whose_memory_is_out() -> None:
    assert "on the card" in failure_of(RuntimeError(OUT_OF_MEMORY[0]), "chat").message
    for error in (MemoryError(), *(RuntimeError(words) for words in OUT_OF_MEMORY[12:17])):
        assert "in this computer" in failure_of(error, "chat").message


def test_a_checkpoint_that_reads_back_wrong_is_told_as_what_it_is() -> None:
    failed = failure_of(DamagedCheckpoint("checkpoint-4/optimizer.pt has changed on disk"), "train")
    assert failed.kind == "damaged_checkpoint"
    assert "checkpoint-4/optimizer.pt" in failed.message
    assert "Earlier checkpoints are kept" in failed.advice


@pytest.mark.parametrize(
    ("system", "release", "can"),
    [
        ("linux", "6.8.0-45-generic", True),
        ("linux", "5.15.167.4-microsoft-standard-WSL2", False),
        ("linux", "4.4.0-19041-Microsoft", False),
        ("win32", "11", False),
    ],
)
def test_segments_grow_where_the_driver_can_map_them(system: str, release: str, can: bool) -> None:
    assert can_expand_segments(system, release) is can


def test_a_file_of_torch_that_took_less_than_was_written_is_a_full_disk(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys, torch; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "from qlora_studio.engine.faults import failure_of\n"
        "for size in (*range(11_600, 12_500, 50), 40_000):\n"
        "    try: torch.save({str(part): torch.zeros(size // 10) for part in range(10)}, sys.argv[1])\n"
        "    except Exception as error: print(failure_of(error, 'train').kind, error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "optimizer.pt")]
    kinds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(kinds) > 1
    assert all(line.startswith("disk_full") for line in kinds), kinds
