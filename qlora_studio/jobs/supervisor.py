"""Looks after the worker of a run: starts it, waits, and alone starts it again after a fault that can be got over.

CUDA errors are sticky, and bitsandbytes' library calls C's `exit(1)` on them: nothing in the worker runs any more then.
This process has no torch and no pydantic, so that it costs next to nothing beside a run of days. What takes more, to
judge a death and to tell it, is done by a process of its own (recovery.py) when it comes to that.

It ends as its worker does, by the same code or signal. Whoever kills it alone leaves a worker that goes on.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from qlora_studio import child_process
from qlora_studio.storage.runs import inherited_lock

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP")
_Handing = Callable[[int | None], "subprocess.Popen[bytes] | None"]  # of a run, with its lock, to a worker that waits


def supervise(command: Sequence[str]) -> int:
    """Run the worker that `command` starts, its folder last, to its end; return its exit code."""
    return _Supervisor(command).run()


def supervise_idle(program: Sequence[str]) -> int:
    """Have a worker wait for a run; hand over to it the run that is handed over here, then look after that.

    Both wait at their stdin, and end with whoever waits for neither any more, also where that was killed.
    """
    import socket  # here, for no other supervisor needs it

    from qlora_studio.storage.runs.handed_run import HandedRun, wait_for_run

    ours, its = socket.socketpair()
    worker = child_process.start_here([*program, "idle-worker"], stdin=its)
    its.close()
    if (given := wait_for_run()) is None:
        worker.kill()
        worker.wait()
        return 0
    given.take_over()

    def hand_over(lock: int | None) -> "subprocess.Popen[bytes] | None":
        """Return the worker, which has the run now; None where it is gone."""
        locks = () if lock is None else (lock,)
        with ours:
            try:
                HandedRun(given.folder, given.environment, (2, *locks)).send(ours)
            except OSError:
                worker.kill()
                worker.wait()
                return None
        return worker

    return _Supervisor([*program, "worker", str(given.folder)], hand_over).run()


class _Supervisor:
    def __init__(self, command: Sequence[str], hand_over: _Handing | None = None) -> None:
        self._command = command
        self._hand_over = hand_over  # for the first worker, where one waits
        self._folder = command[-1]
        self._lock = inherited_lock.take(Path(self._folder) / "run.lock")
        self._worker: subprocess.Popen[bytes] | None = None
        self._log_from = 0  # where worker.log, our stderr, begins to be this worker's
        self._asked = 0  # the signal that asked for the end
        os.environ[inherited_lock.VARIABLE] = inherited_lock.NO_LOCK if self._lock is None else str(self._lock)

    def run(self) -> int:
        for name in _PASSED_ON:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # which the worker ignores, too
                signal.signal(number, self._pass_on)
        code = self._run_worker()
        while not self._asked and (code == child_process.AGAIN or self._recovers(code)):
            code = self._run_worker()
        return _end_like(-self._asked if code == child_process.AGAIN else code)

    def _run_worker(self) -> int:
        self._log_from = os.fstat(2).st_size
        hand_over, self._hand_over = self._hand_over, None
        self._worker = (hand_over and hand_over(self._lock)) or child_process.start_here(
            self._command,
            pass_fds=() if self._lock is None else (self._lock,),
            creationflags=_creation_flags(),
        )
        if self._asked:
            self._pass_on(self._asked, None)
        return self._worker.wait()

    def _recovers(self, code: int) -> bool:
        """Whether a worker that ended so is to be started again; that it is has then been told."""
        if code == 0:
            return False
        facts = (self._folder, str(code), str(self._log_from))
        judge = child_process.python("-m", "qlora_studio", "recover", *facts)
        return child_process.start_here(judge).wait() == child_process.AGAIN

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if self._worker is not None and self._worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker.pid, number)


def _creation_flags() -> int:
    """On Windows: no console, which would open beside a process that has none."""
    if sys.platform != "win32":
        return 0
    return subprocess.DETACHED_PROCESS


def _end_like(code: int) -> int:
    """Return a worker's exit code, or end by the signal that it ended by: whoever started it reads that in words."""
    if sys.platform == "win32":
        return code - (1 << 32) if code >= 1 << 31 else code  # as Python takes it
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker's own core is the one to look at
        with contextlib.suppress(OSError):  # SIGKILL needs no permission
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code
