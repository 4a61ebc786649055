"""How a process that waits is told, once, which run is its own: by a pair of sockets, which no other process can reach.

The run's log and lock go along as descriptors. Whoever waits learns at once that the other side is gone. Windows has no
way to hand over what is open.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.storage.runs import inherited_lock

_PIECE = 1 << 16
_TAKEN = b"\n"
_MOST_DESCRIPTORS = 2


@dataclass(frozen=True)
class HandedRun:
    """A run's folder, what its process finds in the environment, and what it takes over open: the log, then a lock."""

    folder: Path
    environment: Mapping[str, str]
    descriptors: tuple[int, ...]

    def send(self, channel: socket.socket) -> None:
        """Tell whoever waits at the other end, and wait until it has taken that. Raises OSError where nobody does."""
        text = json.dumps([str(self.folder), dict(self.environment)]).encode() + b"\n"
        sent = socket.send_fds(channel, [text], self.descriptors)
        if sent < len(text):  # to send nothing would fail where all was taken, and the other end is closed already
            channel.sendall(text[sent:])
        if not channel.recv(1):
            raise ConnectionResetError("whoever waited has ended")

    def take_over(self) -> None:
        """Be as a process that was started for it: its log to print to, its lock, its environment, no input."""
        log, *locks = self.descriptors
        os.environ.update(self.environment)
        os.environ[inherited_lock.VARIABLE] = str(locks[0]) if locks else inherited_lock.NO_LOCK
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(log)


def wait_for_run() -> HandedRun | None:
    """Wait at stdin until a run is handed over; None where whoever could do that is gone."""
    text, descriptors = b"", []
    with socket.socket(fileno=os.dup(0)) as channel:
        while not text.endswith(b"\n"):
            piece, received, _, _ = socket.recv_fds(channel, _PIECE, _MOST_DESCRIPTORS)
            descriptors += received
            text += piece
            if not piece:
                return None
        with suppress(OSError):  # the run is begun, also where whoever handed it over has ended since
            channel.send(_TAKEN)
    folder, environment = json.loads(text)
    return HandedRun(Path(folder), environment, tuple(descriptors))
