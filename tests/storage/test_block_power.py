"""Long form: power cuts below a real file system, in what its disk was told to write, and told to flush.

What POSIX promises less of is tried in test_power_cuts.py; here ext4 itself recovers, and the whole program runs on it.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import AdapterSaved, CheckpointSaved, Event, Exported, Finished
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, verify
from qlora_studio.storage.runs.export_folder import damages
from qlora_studio.storage.runs.leftovers import remove_leftovers
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import final_weights, make_run, run_to_end
from tests.storage.block_log import cut_disks
from tests.storage.test_power_cuts import WRITERS

_CAN = (
    sys.platform == "linux"
    and os.geteuid() == 0
    and all(Path(device).exists() for device in ("/dev/fuse", "/dev/loop-control"))
    and all(shutil.which(program) for program in ("mkfs.ext4", "losetup", "mount"))
)
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not _CAN, reason="needs root, FUSE, a loop device and ext4"),
]
_MIB = 1 << 20
_HARSH = "data=writeback,noauto_da_alloc"  # nothing that ext4 does for programs that sync too little

Told = list[tuple[int, str]]


class _Machine:
    """A mounted disk, and what was told by when in its log."""

    def __init__(self, place: Path, size: int, options: str) -> None:
        self.home, self.log, self._size, self._options = place / "disk", place / "log", size, options
        self._out = place / "after-the-cut"
        self.told: Told = []

    def tell(self, fact: str) -> None:
        self.told.append((self.log.stat().st_size, fact))

    def cuts(self, count: int, begin: int, seed: int) -> Iterator[tuple[str, ...]]:
        """Mount what may be left after cuts right after all that was told, and at `count` moments more."""
        chance = random.Random(seed)
        end = self.log.stat().st_size
        moments = [position for position, _ in self.told] + [chance.randint(begin, end) for _ in range(count)]
        for position in cut_disks(self.log, self._size, moments, self._out, seed):
            _run("mount", "-o", "loop", self._out, self.home)
            try:
                yield tuple(fact for moment, fact in self.told if moment <= position)
            finally:
                _run("umount", self.home)

    @contextmanager
    def at_work(self) -> Iterator[int]:
        """Yield, on the mounted disk, where its log begins."""
        fuse = self.home.with_name("fuse")
        for folder in (self.home, fuse):
            folder.mkdir()
        command = [sys.executable, "-m", "tests.storage.block_log", str(fuse), str(self.log), str(self._size)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"mounted\n"
            device = _run("losetup", "-f", "--show", fuse / "disk")
            _run("mkfs.ext4", "-q", "-F", device)
            _run("mount", "-o", self._options, device, self.home)
            _run("sync", "-f", self.home)
            yield self.log.stat().st_size
            _run("umount", self.home)
            _run("losetup", "-d", device)
        finally:
            subprocess.run(["umount", "-l", fuse], check=False)
            server.wait(10)
            server.stdout.close()


def _run(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("options", ["defaults", _HARSH])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_told_as_safe_is_on_the_disk(
    writer: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _Machine(tmp_path, 16 * _MIB, options)
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(machine.home))
    write, check = WRITERS[writer]
    with machine.at_work():
        for name in ("run", "hub"):
            (machine.home / name).mkdir()
        (machine.home / "base.safetensors").write_bytes(b"weights" * 999)
        _run("sync", "-f", machine.home)
        begin = machine.log.stat().st_size
        write(machine.home, machine.tell)
    for told in machine.cuts(25, begin, seed=14):
        check(machine.home, told)


def test_a_write_that_is_not_synced_does_not_pass(tmp_path: Path) -> None:
    machine = _Machine(tmp_path, 16 * _MIB, "defaults")
    with machine.at_work() as begin:
        (machine.home / "new").write_bytes(b"x" * 9000)
        (machine.home / "new").rename(machine.home / "named")
        machine.tell("written")
    found = [(machine.home / "named").exists() for told in machine.cuts(5, begin, seed=14) if told]
    assert False in found


def test_a_whole_run_on_a_disk_that_loses_its_power_has_lost_no_more_than_was_said(
    tiny_llama: Path, tmp_path: Path
) -> None:
    machine = _Machine(tmp_path, 256 * _MIB, "defaults")
    settings = ("training.epochs=1", "checkpoint.keep=2", "export.merge=true")
    with machine.at_work():
        run = make_run(machine.home / "runs", tiny_llama, *settings)
        machine.tell("run")
        _run("sync", run.path.parent / "rows.jsonl")  # the user's, who wrote them long ago
        begin = machine.log.stat().st_size
        _follow(run, machine.tell)
        assert run.state().phase is Phase.FINISHED, run.state().failure
        weights = final_weights(run)
    resumed = 0
    for told in machine.cuts(8, begin, seed=14):
        _check_run(run, told)
        if len(told) > 1 and "finished" not in told and not resumed:
            resumed += 1
            assert run_to_end(run).phase is Phase.FINISHED
            assert final_weights(run) == weights
    assert resumed


def _follow(run: RunFolder, tell: Callable[[str], None]) -> None:
    """Tell each fact when the worker has gone on after it: a reader sees an event a moment before it is synced."""
    process, fact = start_worker(run), ""
    for batch in RunFollower(run, process).batches():
        for event in batch:
            if fact:
                tell(fact)
            fact = _fact(event)
    process.wait(60)
    tell(fact)


def _fact(event: Event) -> str:
    match event:
        case CheckpointSaved():
            return f"checkpoint {event.step}"
        case AdapterSaved():
            return "adapter"
        case Exported():
            return f"export {event.path}"
        case Finished():
            return "finished"
    return ""


def _check_run(run: RunFolder, told: tuple[str, ...]) -> None:
    remove_leftovers(run.path.parent)
    newest = CheckpointFolder(run.checkpoints_path).newest_safe(lambda path, why: pytest.fail(f"{path.name}: {why}"))
    steps = [int(fact.split()[1]) for fact in told if fact.startswith("checkpoint")]
    assert (newest.step if newest else 0) >= max(steps, default=0)
    if "run" in told:
        run.config()
    if "adapter" in told or run.adapter_path.exists():
        verify(run.adapter_path)
    exports = list(run.exports_path.glob("[!.]*"))
    assert {fact.partition(" ")[2] for fact in told if fact.startswith("export")} <= {str(path) for path in exports}
    for path in exports:
        assert damages(path) == []
    assert "finished" not in told or run.state().phase is Phase.FINISHED
