"""A program in a terminal of its own: what it shows is read as it comes, and keys reach its process group."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path


class Terminal:
    """The command line in a pseudo terminal. Use it as a context: what still lives at its end is killed."""

    def __init__(self, *arguments: str, home: Path, **environment: str) -> None:
        self.shown = ""
        self._own, other = pty.openpty()
        self.resize(80)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's `&` has it ignored

        self.process = subprocess.Popen(
            [sys.executable, "-m", "qlora_studio", *arguments],
            env={**os.environ, "QLORA_STUDIO_HOME": str(home), "TERM": "xterm", **environment},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(other)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)

    def resize(self, columns: int) -> None:
        """Say how wide the terminal is; the kernel tells the program."""
        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait_for(self, pattern: str, seconds: float = 120.0) -> str:
        """Return all that was shown once `pattern` is found in it."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            assert self._read(deadline), f"{pattern!r} was not shown:\n{self.shown}"
        return self.shown

    def press_ctrl_c(self) -> None:
        """Press the keys: the terminal sends SIGINT to the whole group."""
        os.write(self._own, b"\x03")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self.process.send_signal(number)

    def ending(self, seconds: float = 120.0) -> tuple[int, str]:
        """Wait for the end; return the exit code and all that was shown."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(10), self.shown

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        assert left > 0, self.shown
        if not select.select([self._own], [], [], left)[0]:
            return True
        try:
            data = os.read(self._own, 1 << 16)
        except OSError:  # Linux, where nobody has the other side open any more
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
