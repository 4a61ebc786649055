"""The queue: runs that wait for their turn, in order, in one small file that survives everything."""

import os
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qlora_studio.core.bounds import Amount, PathText
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed, set_aside
from qlora_studio.storage.permissions import private_folder
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder


class QueuedRun(BaseModel):
    """A run that waits. `needed_bytes` of the card's memory must be free for its start; 0 where that is not known."""

    model_config = ConfigDict(frozen=True)

    path: PathText
    needed_bytes: Amount = 0

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.path)


_RUNS: TypeAdapter[list[QueuedRun]] = TypeAdapter(Annotated[list[QueuedRun], Field(fail_fast=True)])


class RunQueue:
    """The queue in `queue.json` of a folder of runs. Two windows may use it at once.

    `problem` says what became of a queue that could not be read.
    """

    def __init__(self, runs: Path) -> None:
        self._path = runs / "queue.json"
        self._lock = FileLock(runs / "queue.lock")
        self.problem = ""

    def runs(self) -> list[QueuedRun]:
        """Return the runs that wait, first first; those whose folder is gone are passed over."""
        self.problem = ""
        try:
            waiting = read_parsed(self._path, _RUNS.validate_json)
        except FileNotFoundError:
            return []
        except StudioError as error:
            self.problem = f"{error.message} No run waits any more; {self._path} is kept."
            return []
        return [run for run in waiting if os.path.lexists(run.folder.config_path)]

    def add(self, folder: RunFolder, needed_bytes: int = 0) -> None:
        """Put a run at the end; one that waits already stays where it is. Raises NotTrusted."""
        trust.trusted_text(folder.path)
        private_folder(self._path.parent)
        path = str(folder.path.resolve())
        with self._lock:
            waiting = self.runs()
            if all(run.path != path for run in waiting):
                self._write([*waiting, QueuedRun(path=path, needed_bytes=needed_bytes)])

    def remove(self, folder: RunFolder) -> bool:
        """Take a run out; return whether it was in."""
        path = str(folder.path.resolve())
        with self._lock:
            waiting = self.runs()
            self._write([run for run in waiting if run.path != path])
        return any(run.path == path for run in waiting)

    def _write(self, runs: list[QueuedRun]) -> None:
        """Write the queue; what cannot be read in its place is set aside."""
        if self.problem:
            set_aside(self._path)
        write_atomically(self._path, _RUNS.dump_json(runs, indent=1))
