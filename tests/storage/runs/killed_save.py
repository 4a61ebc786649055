"""A process that saves a checkpoint and kills itself before its Nth call into the system; says what it synced."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder

CALLS = {
    "open",
    "write",
    "fsync",
    "rename",
    "mkdir",
    "rmdir",
    "unlink",
    "close",
    "scandir",
    "stat",
    "open_code",
    "chmod",
}


def write_files(folder: Path) -> None:
    """What a trainer would write: a few files, one in a folder of its own."""
    (folder / "adapter.safetensors").write_bytes(b"new weights" * 9000)
    (folder / "optimizer.pt").write_bytes(b"new moments" * 20000)
    (folder / "sub").mkdir()
    (folder / "sub" / "state.json").write_text('{"step": 2}')


class Killer:
    """Counts calls into the system; kills its process before the one that was named."""

    def __init__(self, at: int, synced: int) -> None:
        self._at = at
        self._synced = synced
        self.count = 0
        self._inside = False

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event not in ("c_call", "c_return") or self._inside or getattr(function, "__name__", "") not in CALLS:
            return
        self._inside = True
        if event == "c_call":
            self.count += 1
            if self.count == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
        elif function.__name__ == "fsync":
            path = frame.f_locals.get("path")
            os.write(self._synced, f"{path}\n".encode())
        self._inside = False


if __name__ == "__main__":
    checkpoints, at, log, step = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    killer = Killer(at, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    sys.setprofile(killer)
    CheckpointFolder(checkpoints).save(step, write_files, evaluation_loss=0.5)
    CheckpointFolder(checkpoints).rotate(2)
    sys.setprofile(None)
    print(killer.count)
