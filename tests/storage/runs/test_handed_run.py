"""A run is handed over whole, or whoever hands it over learns that it was not."""

import os
import socket
import sys
from pathlib import Path

import pytest

from qlora_studio.storage.runs.handed_run import HandedRun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing that is open can be handed over there")


class TakenAtOnce(socket.socket):
    """A channel at whose other end the run has been taken, and the end closed, before its sender looks again."""

    other: socket.socket

    def sendmsg(self, *arguments: object) -> int:
        """Send, and let the other end answer first."""
        sent = super().sendmsg(*arguments)  # type: ignore[arg-type]
        self.other.recv(1 << 16)
        self.other.send(b"\n")
        self.other.close()
        return sent


def run(folder: Path, log: int) -> HandedRun:
    return HandedRun(folder, {"NAME": "value"}, (log,))


def test_a_run_that_was_taken_before_the_sender_looked_again_is_handed_over(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    channel = TakenAtOnce(fileno=ours.detach())
    channel.other = its
    with channel, (tmp_path / "log").open("wb") as log:
        run(tmp_path, log.fileno()).send(channel)


def test_one_that_nobody_took_is_told(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    with ours, (tmp_path / "log").open("wb") as log:
        ours.settimeout(0.05)
        with pytest.raises(OSError, match="timed out"):
            run(tmp_path, log.fileno()).send(ours)
        its.close()
        with pytest.raises(OSError, match=os.strerror(32)):
            run(tmp_path, log.fileno()).send(ours)
