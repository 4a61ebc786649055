"""The entry of every other rank of a run than its worker: take the order, train along, and end with the worker.

It says why it ended by the pipe that it was started with. What its libraries warn of goes to the run's worker.log.
"""

import os
import sys
import threading
import traceback
from typing import BinaryIO

from qlora_studio.core.errors import ExitCode, StudioError
from qlora_studio.core.run.events import Failed
from qlora_studio.engine.context import RankContext
from qlora_studio.engine.faults import failure_of
from qlora_studio.engine.ranks.order import RankAnswer, RankOrder
from qlora_studio.engine.swift_imports import swift_imports
from qlora_studio.engine.worker import prepare_process
from qlora_studio.storage.permissions import work_as
from qlora_studio.storage.runs.run_folder import RunFolder


def work_as_rank() -> int:
    """Train along with the worker that started this process; return the exit code."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the worker's own says the same
        prepare_process()
        with swift_imports():
            from qlora_studio.engine.training.rank import train_along
        line = sys.stdin.buffer.readline()
        if not line:
            return ExitCode.OK
        threading.Thread(target=_end_with_worker, name="worker-watch", daemon=True).start()
        try:
            order = RankOrder.model_validate_json(line)
            work_as(order.folder)
            train_along(order, RankContext(RunFolder(order.folder)), lambda ready: _answer(answers, ready))
        except StudioError as error:
            detail = error.detail or traceback.format_exc()
            failed = Failed(kind=error.kind, message=error.message, advice=error.advice, detail=detail)
        except Exception as error:  # noqa: BLE001  a worker's entry: whatever it was, it becomes a Failed
            traceback.print_exc()
            failed = failure_of(error, "train")
        else:
            return ExitCode.OK
        _answer(answers, RankAnswer(failed=failed))
    sys.stderr.flush()
    os._exit(failed.kind.exit_code)  # a card that waits for another one may never end by itself


def _answer(answers: BinaryIO, answer: RankAnswer) -> None:
    answers.write(answer.model_dump_json().encode() + b"\n")
    answers.flush()


def _end_with_worker() -> None:
    """End this process once the worker is gone, however it ended: it holds the other end of stdin."""
    while sys.stdin.buffer.read(1 << 10):
        pass
    os._exit(ExitCode.OK)
