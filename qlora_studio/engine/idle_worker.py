"""The worker that waits for a run, with as much imported as can be without touching a card.

bitsandbytes asks the card for its memory as soon as it is imported. So where there is one, it and whatever imports it
wait for the run.
"""

import importlib
import os
from contextlib import suppress

from qlora_studio import child_process
from qlora_studio.core.errors import ExitCode, StudioError
from qlora_studio.engine.model.environment import driver_and_cards
from qlora_studio.engine.swift_imports import swift_imports
from qlora_studio.engine.worker import choose_allocator, mapping_failed, prepare_process, work
from qlora_studio.storage.runs.handed_run import wait_for_run
from qlora_studio.storage.runs.run_folder import RunFolder

_RUN = ("qlora_studio.engine.training.job",)
# What that imports, too: three quarters of it, by time. A name that another version does not have is passed over.
_BEFORE_BITSANDBYTES = (
    "torch._dynamo",
    "torch.distributed.tensor",
    "transformers.generation.utils",
    "transformers.modeling_utils",
    "accelerate",
    "datasets",
)


def work_when_asked() -> int:
    """Import, wait, and do the work of the run that is handed over; return the exit code."""
    prepare_process()
    is_ours = choose_allocator(failed=False)
    _import(_RUN if _sees_no_card() else _BEFORE_BITSANDBYTES)
    if (given := wait_for_run()) is None:
        return ExitCode.OK
    given.take_over()
    with suppress(StudioError, OSError):  # which the work itself tells
        if is_ours and mapping_failed(RunFolder(given.folder)):
            return child_process.AGAIN
    return work(str(given.folder))


def _import(names: tuple[str, ...]) -> None:
    with swift_imports():
        for name in names:
            with suppress(ImportError):  # the run itself says what is missing
                importlib.import_module(name)


def _sees_no_card() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not driver_and_cards()[1]
