"""The entry of every worker: take the folder's lock, do its job, and end with exactly one terminal event."""

import faulthandler
import os
import platform
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, assert_never

from filelock import Timeout
from wakepy import keep

from qlora_studio import __version__, child_process
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.errors import ExitCode, FailureKind, InvalidRunConfig, StudioError
from qlora_studio.core.run import machines, ranks
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Failed, Finished, Recovering, TerminalEvent, WorkerStarted
from qlora_studio.core.run.job import (
    ChatJob,
    DataJob,
    DownloadJob,
    EstimateJob,
    ExportJob,
    Job,
    MachineJob,
    MergeJob,
    TrainJob,
    UploadJob,
    VerifyJob,
)
from qlora_studio.core.run.recovery import recovery_from
from qlora_studio.core.run.reports import AwakeReport, AwakeReported
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext, JobStopped
from qlora_studio.engine.faults import failure_of
from qlora_studio.engine.model.environment import environment
from qlora_studio.engine.swift_imports import swift_imports
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.models.quantized_base import refuse_known_quantized, refuse_packed, refuse_quantized
from qlora_studio.storage.network import close_network
from qlora_studio.storage.permissions import work_as
from qlora_studio.storage.runs import inherited_lock
from qlora_studio.storage.runs.own_files import require_own_files
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import JOB_VARIABLE, TrustedRun, given_job

# Read by the libraries when they are imported, so set before any of them is. trl would otherwise tell the hub of every
# trainer that is made; transformers would ask on a terminal that is not there.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BITSANDBYTES_NOWELCOME": "1",
    "TRANSFORMERS_VERBOSITY": "warning",
    "WANDB_DISABLED": "true",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait take the cores from the window and each other
}
_LOCK_SECONDS = 1.0  # whoever looks whether a worker lives holds the lock for a moment


def work(path: str) -> int:
    """Do the job of the folder at `path`; return the exit code."""
    prepare_process()
    folder = RunFolder(path)
    if not folder.path.is_dir():
        print(f"There is no folder {path}.", file=sys.stderr)
        return ExitCode.RUN_NOT_FOUND
    work_as(folder.path)
    lock = os.environ.pop(inherited_lock.VARIABLE, "")  # not for this process's own children
    try:
        require_own_files(folder.path)
        if lock.isdigit():
            return _work_with_lock(folder, int(lock))
        with folder.lock().acquire(timeout=_LOCK_SECONDS, poll_interval=0.02):
            return _work_locked(folder, supervised=bool(lock))
    except Timeout:
        print(f"Another worker is at work in {path}.", file=sys.stderr)
        return ExitCode.RUN_BUSY
    except (OSError, StudioError) as error:
        print(f"Cannot work in {path}: {error}.", file=sys.stderr)
        return ExitCode.NOT_WRITABLE


def prepare_process() -> None:
    """Settle what libraries find as they are imported."""
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})
    faulthandler.enable()
    close_network()
    # With that package, transformers and bitsandbytes fetch compiled code from the hub unasked. Here nobody has it.
    sys.modules["kernels"] = None  # type: ignore[assignment]


def choose_allocator(*, failed: bool) -> bool:
    """Let torch map memory as it needs it, unless that failed before; return whether the user leaves that to us."""
    if "PYTORCH_ALLOC_CONF" in os.environ or not can_expand_segments(sys.platform, platform.release()):
        return False
    os.environ["PYTORCH_ALLOC_CONF"] = f"expandable_segments:{not failed}"
    return True


def mapping_failed(run: RunFolder) -> bool:
    """Whether it failed in this run that memory is mapped as it is needed. Raises StudioError, OSError."""
    return any(isinstance(event, Recovering) and event.kind == FailureKind.MAPPING_FAILED for event in run.events())


def can_expand_segments(system: str, release: str) -> bool:
    """Whether torch's allocator can map memory as it grows. WORKAROUND: on Windows it only warns that it cannot, and
    WSL2's driver, whose kernels are called …-microsoft-standard-WSL2, has no such mapping and fails with it.
    """
    return system == "linux" and "microsoft" not in release.lower()


def _work_with_lock(folder: RunFolder, lock: int) -> int:
    """Work under a lock that is the supervisor's, too; a worker that is to be started again leaves it locked."""
    try:
        return _work_locked(folder, supervised=True)
    finally:
        inherited_lock.release(lock)


def _work_locked(folder: RunFolder, *, supervised: bool) -> int:
    context = JobContext(folder)
    try:
        ending, code = _outcome(folder, context)
        # Where several machines train, those that ended with this one would not be there any more.
        can_recover = supervised and not context.is_orphaned() and not os.environ.get(machines.VARIABLE)
        recovering = _recovery(ending, folder) if can_recover and isinstance(ending, Failed) else None
        context.emit(recovering or ending)
        if recovering:
            _leave_at_once(child_process.AGAIN)
        if isinstance(ending, Failed) and (ending.kind == FailureKind.CARD_LOST or _has_ranks()):
            _leave_at_once(code)
        return code
    finally:
        context.close()


def _has_ranks() -> bool:
    return bool(os.environ.get(ranks.VARIABLE) or os.environ.get(machines.VARIABLE))


def _leave_at_once(code: int) -> NoReturn:
    """End without Python's own ending, which frees tensors: a card that is lost may never answer to that.

    So it is with a card that waits for one of another rank.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _outcome(folder: RunFolder, context: JobContext) -> tuple[TerminalEvent, int]:
    """Run the job and return how it ended. The one place where every failure becomes a value."""
    kind = ""
    try:
        given = os.environ.pop(JOB_VARIABLE, "")
        job = given_job(folder, given) if given or folder.job_path.exists() else TrainJob()
        kind = job.kind
        context.emit(WorkerStarted(job=job.kind, studio=__version__, pid=os.getpid()))
        if isinstance(job, TrainJob):
            folder = context.folder = TrustedRun(folder.path)
        run = RunFolder(job.run_dir) if isinstance(job, ChatJob | ExportJob | VerifyJob) else folder
        choose_allocator(failed=mapping_failed(run))
        if isinstance(job, TrainJob):
            context.emit(environment())
        preflight(job, folder)
        context.phase(Activity.LOADING_LIBRARIES)
        return _run(job, context), ExitCode.OK
    except JobStopped:
        return Finished(status="stopped"), ExitCode.OK
    except StudioError as error:
        detail = error.detail or traceback.format_exc()
        failed = Failed(kind=error.kind, message=error.message, advice=error.advice, detail=detail)
        return failed, error.kind.exit_code
    except Exception as error:  # noqa: BLE001  the worker's entry: whatever it was, it becomes a Failed
        traceback.print_exc()
        failed = failure_of(error, _kind_by_now(kind, folder))
        return failed, failed.kind.exit_code


def _kind_by_now(kind: str, folder: RunFolder) -> str:
    """Return the kind of job whose failure this is: a run that has its adapter is only exporting any more."""
    try:
        return "export" if kind == "train" and folder.state().training_over else kind
    except (StudioError, OSError):
        return kind


def _recovery(failed: Failed, folder: RunFolder) -> Recovering | None:
    if folder.job_path.exists():  # a job is small: it is simply tried again
        return None
    try:
        return recovery_from(failed, folder.config(), folder.state())
    except (StudioError, OSError):  # a folder that is gone, say: there is nothing to go on with
        return None


def _run(job: Job, context: JobContext) -> TerminalEvent:
    with keep.running(on_fail="pass") as awake:
        if isinstance(job, TrainJob):
            context.emit(AwakeReported(report=AwakeReport(active=bool(awake.active))))
        ending = _run_kind(job, context)
    return ending  # noqa: RET504  by its type, keep.running might swallow what is raised in it


def _run_kind(job: Job, context: JobContext) -> TerminalEvent:
    with swift_imports(torch_is_needed=not isinstance(job, DataJob | DownloadJob | UploadJob)):
        run = _imported(job, context)
    return run()


def _imported(job: Job, context: JobContext) -> Callable[[], TerminalEvent]:
    """Return what does a job, of the module of its kind, imported only now: most of them load torch."""
    match job:
        case TrainJob():
            from qlora_studio.engine.training.job import run as train

            return partial(train, job, context)
        case MachineJob():
            from qlora_studio.engine.training.machine import run as train_along

            return partial(train_along, job, context)
        case DataJob():
            from qlora_studio.engine.data.job import run as read_data

            return partial(read_data, job, context)
        case EstimateJob():
            from qlora_studio.engine.memory.job import run as estimate

            return partial(estimate, job, context)
        case ExportJob():
            from qlora_studio.engine.export.job import run as export

            return partial(export, job, context)
        case MergeJob():
            from qlora_studio.engine.export.merge_job import run as merge

            return partial(merge, job, context)
        case VerifyJob():
            from qlora_studio.engine.verification.job import run as verify

            return partial(verify, job, context)
        case ChatJob():
            from qlora_studio.engine.chat.job import run as chat

            return partial(chat, job, context)
        case DownloadJob():
            from qlora_studio.engine.model.download_job import run as download

            return partial(download, job, context)
        case UploadJob():
            from qlora_studio.engine.export.upload_job import run as upload

            return partial(upload, job, context)
        case _:
            assert_never(job)


def preflight(job: Job, folder: RunFolder) -> None:
    """Raise StudioError where a training job cannot succeed: a setting, the model's place, the dataset's place."""
    if not isinstance(job, TrainJob):
        return
    config = folder.config()
    if problems := problems_before_start(config):
        raise InvalidRunConfig(problems)
    location = locate_model(config.model.source, config.model.revision)
    if location.path is None:
        refuse_known_quantized(config.model.source)
    elif location.kind != "gguf":
        refuse_quantized(location.path, config.model.source, config.quantization.original, merges=config.export.merge)
        refuse_packed(location.path, config.model.source)  # by headers: a download that broke off is told at once
    for path in filter(None, (*(source.path for source in config.data.sources), config.data.evaluation_path)):
        if Path(path).is_absolute() and not Path(path).exists():
            raise StudioError(
                say("There is no dataset at {path}.", path=path),
                kind=FailureKind.DATA_NOT_FOUND,
                advice=say("It may have been moved or renamed: choose it again."),
            )
