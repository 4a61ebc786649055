"""A worker that has its libraries imported and waits for a run, which then starts seconds sooner.

The window keeps one while nothing is at work in it, with a supervisor above it as every run's worker has. Libraries
read the environment as they are imported, and which cards they may see stands in it. So the worker takes a run only
where a fresh one would find the same; else it is replaced. It holds no lock, listens on no port, and ends with the
window. On Windows there is none: what is open cannot be handed over there.
"""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import psutil

from qlora_studio import child_process
from qlora_studio.storage.runs.handed_run import HandedRun

ENVIRONMENT = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
_PROGRAM = child_process.python("-m", "qlora_studio")
_LEAST_MEMORY = 15 * 10**9  # of the machine: what one of 16 GB shows
_PATIENCE = 3.0  # seconds, for its supervisor, which does nothing but wait
_LEAST_FREE = 4 * 10**9  # the worker takes half a gigabyte


class IdleWorker:
    """At most one worker that waits. `program` plays it in tests. May be called from several threads."""

    def __init__(self, program: tuple[str, ...] = _PROGRAM) -> None:
        self._program = program
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._conditions: object = None

    def keep(self, cards: Mapping[str, str]) -> None:
        """Have one wait whose environment says this of cards, in the place of one that would not do. Raises OSError."""
        with self._guard:
            conditions = _conditions(cards)
            if self._waits() and conditions == self._conditions:
                return
            self._end()
            self._start(cards)
            self._conditions = conditions

    def may_wait(self) -> bool:
        """Whether this machine has room for one; for one that waits already, a little less will do."""
        with self._guard:
            waits = self._waits()
        if sys.platform == "win32":
            return False
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
        memory = psutil.virtual_memory()
        on_battery = battery is not None and battery.power_plugged is False
        return has_room(memory.total, memory.available, on_battery=on_battery, waits=waits)

    def hand_over(
        self, folder: Path, cards: Mapping[str, str], environment: Mapping[str, str], log: BinaryIO
    ) -> "subprocess.Popen[bytes] | None":
        """Hand a run over and return its supervisor; None where no worker waits that is as a fresh one would be."""
        with self._guard:
            process, channel = self._process, self._channel
            if process is None or channel is None or self._conditions != _conditions(cards):
                return None
            channel.settimeout(_PATIENCE)
            try:
                HandedRun(folder, environment, (log.fileno(),)).send(channel)
            except OSError:  # it was killed, or stopped
                self._end()
                return None
            channel.close()
            self._process = self._channel = self._conditions = None
            return process

    def end(self) -> None:
        """Have none wait."""
        with self._guard:
            self._end()

    def _waits(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self, cards: Mapping[str, str]) -> None:
        self._channel, its = socket.socketpair()
        with its:
            self._process = child_process.start(
                (*_PROGRAM, "supervise-idle", *self._program),
                environment={**ENVIRONMENT, **cards},
                stdin=its,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _end(self) -> None:
        process, channel = self._process, self._channel
        self._process = self._channel = self._conditions = None
        if channel is not None:
            channel.close()
        if process is not None and process.poll() is None and sys.platform != "win32":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def has_room(total: int, available: int, *, on_battery: bool, waits: bool) -> bool:
    """Whether a worker may wait in a machine with this memory; one that waits already stays for longer."""
    least = _LEAST_FREE // 2 if waits else _LEAST_FREE
    return total >= _LEAST_MEMORY and available >= least and not on_battery


def _conditions(cards: Mapping[str, str]) -> object:
    """What a worker that starts now would find: its environment, and the libraries that are installed."""
    library = Path(sysconfig.get_path("purelib"))
    return {**child_process.safe_environment(), **cards}, library.stat().st_mtime_ns if library.is_dir() else 0
