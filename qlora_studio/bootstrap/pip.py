"""pip at work in an environment: its lines as they come, its end, and its failure in words."""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.bootstrap.failure import Stopped, failure_of

_TICK_SECONDS = 0.2
_DEATH_SIGNAL = 1  # of prctl: what the system sends to a child when its parent dies


@dataclass(frozen=True)
class Runner:
    """Runs programs for the setup; what they say goes into the log, and `stop` ends them."""

    log: Path
    stop: threading.Event
    wheels: str = ""

    def pip(self, python: Path, *words: str, tick: Callable[[str], None] = lambda line: None) -> None:
        """Run pip. Proxies, certificates and indexes are those of its own settings and environment."""
        self.run([str(python), "-m", "pip", *words, "--no-input", "--disable-pip-version-check"], tick)

    def run(self, command: Sequence[str], tick: Callable[[str], None] = lambda line: None) -> None:
        """Run a program to its end; `tick` gets each line, and an empty one some times a second."""
        last: deque[str] = deque(maxlen=200)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8", errors="replace") as log, _started(command) as process:
            print("$", *command, file=log)
            try:
                for line in _lines(process):
                    if self.stop.is_set():
                        raise Stopped
                    if line and not line.startswith("Progress "):
                        print(line, file=log, flush=True)
                        last.append(line)
                    tick(line)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise failure_of(last, self.wheels, f"{sys.version_info[0]}.{sys.version_info[1]}")


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a program that does not outlive this one, killed as it may be: its successor writes to the same places."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "LC_MESSAGES": "C", "NO_COLOR": "1"}
    ends_with_parent = _end_with_parent if sys.platform == "linux" else None
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        preexec_fn=ends_with_parent,
        creationflags=flags,
    )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a program as they come, and an empty one where none came for a moment."""
    assert process.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            line = ""
        if line is None:
            return
        yield line.rstrip()


def _read(stream: Iterator[str], put: Callable[[str | None], None]) -> None:
    for line in stream:
        put(line)
    put(None)
