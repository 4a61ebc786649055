"""What was told as safe is whole after a power cut at any moment; anything else is whole too, or not there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.probe_record import ProbeRecord
from qlora_studio.core.run.commands import Stop, parse_command
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.core.run.job import ChatJob
from qlora_studio.storage.durable import (
    Manifest,
    disagreements,
    read_manifest,
    staged_folder,
    write_atomically,
)
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.runs.leftovers import remove_leftovers
from qlora_studio.storage.runs.message_log import MessageLogReader, MessageLogWriter
from qlora_studio.storage.runs.probe_records import probe_records, remember_probe
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.settings import Settings, load_settings, save_settings
from qlora_studio.storage.syncing import sync_fetched
from tests.storage.power_cut import PowerCuts, Tell

_CONFIG = RunConfig.model_validate({"name": "cut", "model": {"source": "m"}, "data": {"path": "d.jsonl"}})
_SEED = 14

Write = Callable[[Path, Tell], None]
Check = Callable[[Path, tuple[str, ...]], None]


def _save_checkpoints(home: Path, tell: Tell) -> None:
    folder = CheckpointFolder(home / "run" / "checkpoints")
    for step in (1, 2, 3, 3, 4):
        folder.save(step, lambda staging: _write_state(staging, step), evaluation_loss=1.0 / step)  # noqa: B023
        tell(str(step))
        folder.rotate(2)


def _write_state(staging: Path, step: int) -> None:
    (staging / "adapter.safetensors").write_bytes(b"%d" % step * 9000)
    (staging / "sub").mkdir()
    (staging / "sub" / "state.json").write_text(json.dumps({"step": step}))


def _check_checkpoints(home: Path, told: tuple[str, ...]) -> None:
    folder = CheckpointFolder(home / "run" / "checkpoints")
    newest = folder.newest_safe(lambda path, why: pytest.fail(f"{path.name} had its name before it was whole: {why}"))
    assert (newest.step if newest else 0) >= max(map(int, told), default=0)
    for item in folder.safe():
        assert (item.path / "adapter.safetensors").read_bytes() == b"%d" % item.step * 9000
    assert len(list(folder.safe())) >= min(2, len(set(told)))


def _replace_an_adapter(home: Path, tell: Tell) -> None:
    RunFolder(home / "run").write_config(_CONFIG)
    for version in ("1", "2"):
        with staged_folder(home / "run" / "adapter", replace=True) as staged:
            (staged.path / "weights").write_bytes(version.encode() * 9000)
        tell(version)


def _check_adapter(home: Path, told: tuple[str, ...]) -> None:
    remove_leftovers(home)  # as the program does at its start
    adapter = home / "run" / "adapter"
    assert adapter.is_dir() or not told
    if adapter.is_dir():
        assert not list(disagreements(adapter, read_manifest(adapter, Manifest)))
        assert (adapter / "weights").read_bytes()[:1].decode() >= max(told, default="1")


def _make_a_run(home: Path, tell: Tell) -> None:
    tell(str(create_run_folder(home / "runs", _CONFIG).path.relative_to(home)))


def _check_run(home: Path, told: tuple[str, ...]) -> None:
    for name in told:
        assert RunFolder(home / name).config() == _CONFIG
        assert trust.trusted_text(home / name), "a run that was told as made may give no orders"
    for path in home.rglob("run.toml"):
        assert RunFolder(path.parent).config() == _CONFIG


def _make_a_job(home: Path, tell: Tell) -> None:
    tell(str(create_job_folder(home / "run" / "jobs", ChatJob(run_dir="x")).path.relative_to(home)))


def _check_job(home: Path, told: tuple[str, ...]) -> None:
    for path in [*(home / name / "job.json" for name in told), *home.rglob("job.json")]:
        assert RunFolder(path.parent).job() == ChatJob(run_dir="x")


def _tell_events(home: Path, tell: Tell) -> None:
    for session in (0, 1):
        with MessageLogWriter(home / "run" / "events.jsonl") as log:
            for number in range(3):
                log.append(Stop(save=False))
                log.append(Stop(save=True), sync=True)
                tell(f"{session * 3 + number + 1}")


def _check_events(home: Path, told: tuple[str, ...]) -> None:
    path = home / "run" / "events.jsonl"
    read = list(MessageLogReader(path, parse_command).new())
    assert len(read) >= 2 * int(max(told, default="0"))
    with MessageLogWriter(path) as log:
        log.append(Stop(save=True))
    assert len(list(MessageLogReader(path, parse_command).new())) > len(read), "what is appended then cannot be read"


def _queue_runs(home: Path, tell: Tell) -> None:
    runs = [RunFolder(home / "runs" / name) for name in ("a", "b")]
    queue = RunQueue(home / "runs")
    for run in runs:
        run.write_config(_CONFIG)
        queue.add(run, needed_bytes=5)
        tell(f"+{run.path.name}")
    queue.remove(runs[0])
    tell("-a")


def _check_queue(home: Path, told: tuple[str, ...]) -> None:
    waiting = [run.folder.path.name for run in RunQueue(home / "runs").runs()]
    assert set(waiting) >= {"b"} & {word[1:] for word in told}
    assert "a" in waiting or told in ((), ("+a", "+b"), ("+a", "+b", "-a"))
    assert "-a" not in told or waiting == ["b"]
    assert all(run.needed_bytes == 5 for run in RunQueue(home / "runs").runs())


def _change_settings(home: Path, tell: Tell) -> None:
    for model in ("1", "2"):
        save_settings(Settings(last_model=model * 5000))
        tell(model)


def _check_settings(home: Path, told: tuple[str, ...]) -> None:
    found = load_settings().last_model
    assert found in ("", "1" * 5000, "2" * 5000)
    assert found[:1] >= max(told, default="")


def _remember_probes(home: Path, tell: Tell) -> None:
    for card in ("1", "2"):
        remember_probe(ProbeRecord(card_uuid=card, card=card, driver="1", versions={}, context_bytes=1))
        tell(card)


def _check_probes(home: Path, told: tuple[str, ...]) -> None:
    assert {record.card for record in probe_records()} >= set(told)


def _hash_files(home: Path, tell: Tell) -> None:
    fingerprint_file(home / "base.safetensors")
    tell("hashed")


def _check_hashes(home: Path, told: tuple[str, ...]) -> None:
    found = Fingerprint(files={"base": fingerprint_file(home / "base.safetensors")})
    assert found == Fingerprint(files={"base": fingerprint_file(home / "base.safetensors", anew=True)})


def _fetch_a_model(home: Path, tell: Tell) -> None:
    """As the hub's client does: it syncs nothing."""
    repository = home / "hub" / "models--maker--model"
    snapshot = repository / "snapshots" / "0f"
    for folder in (snapshot, repository / "blobs"):
        folder.mkdir(parents=True)
    (repository / "blobs" / "ab.incomplete").write_bytes(b"weights" * 9000)
    (repository / "blobs" / "ab.incomplete").rename(repository / "blobs" / "ab")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/ab"))
    sync_fetched(snapshot)
    tell("fetched")


def _check_fetched(home: Path, told: tuple[str, ...]) -> None:
    if told:
        snapshot = home / "hub" / "models--maker--model" / "snapshots" / "0f"
        assert (snapshot / "model.safetensors").read_bytes() == b"weights" * 9000


def _write_a_config_for_the_user(home: Path, tell: Tell) -> None:
    write_atomically(home / "new" / "folder" / "my.toml", b"x" * 9000)
    tell("written")


def _check_config(home: Path, told: tuple[str, ...]) -> None:
    path = home / "new" / "folder" / "my.toml"
    assert path.read_bytes() == b"x" * 9000 if told or path.exists() else True


WRITERS: dict[str, tuple[Write, Check]] = {
    "checkpoints": (_save_checkpoints, _check_checkpoints),
    "an adapter that is replaced": (_replace_an_adapter, _check_adapter),
    "a run's folder": (_make_a_run, _check_run),
    "a job's folder": (_make_a_job, _check_job),
    "events": (_tell_events, _check_events),
    "the queue": (_queue_runs, _check_queue),
    "settings": (_change_settings, _check_settings),
    "probes": (_remember_probes, _check_probes),
    "hashes": (_hash_files, _check_hashes),
    "a model from the hub": (_fetch_a_model, _check_fetched),
    "a config that the user asked for": (_write_a_config_for_the_user, _check_config),
}


def _cut(home: Path, write: Write, check: Check, cuts: int | None, seed: int = _SEED, ways: int = 3) -> int:
    home.mkdir(exist_ok=True)
    (home / "base.safetensors").write_bytes(b"weights" * 999)
    (home / "run").mkdir(exist_ok=True)
    (home / "hub").mkdir(exist_ok=True)
    disks = PowerCuts(home, lambda tell: write(home, tell))
    done = 0
    for told in disks.after(cuts, seed, ways):
        check(home, told)
        done += 1
    return done


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, links least of all."""
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "disk"))
    return tmp_path / "disk"


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_told_as_safe_is_whole_after_a_power_cut(writer: str, home: Path) -> None:
    assert _cut(home, *WRITERS[writer], cuts=25) >= 20


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_told_as_safe_is_whole_after_a_power_cut_at_any_call(writer: str, home: Path) -> None:
    assert _cut(home, *WRITERS[writer], cuts=None, ways=15) >= 120


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(("bytes_synced", "name_synced"), [(False, True), (True, False), (True, True)])
def test_a_write_that_is_not_synced_does_not_pass(home: Path, bytes_synced: bool, name_synced: bool) -> None:
    def write(home: Path, tell: Tell) -> None:
        (home / "new").write_bytes(b"x" * 9000)
        if bytes_synced:
            _sync(home / "new")
        (home / "new").rename(home / "named")
        if name_synced:
            _sync(home)
        tell("written")

    def check(home: Path, told: tuple[str, ...]) -> None:
        if told or (home / "named").exists():
            assert (home / "named").read_bytes() == b"x" * 9000

    if bytes_synced and name_synced:
        _cut(home, write, check, cuts=None, ways=20)
    else:
        with pytest.raises((AssertionError, FileNotFoundError)):
            _cut(home, write, check, cuts=None, ways=20)


_TRACED = """
import sys
from pathlib import Path
from tests.storage.power_cut import PowerCuts
from tests.storage.test_power_cuts import WRITERS
home = Path(sys.argv[1])
for write, _ in WRITERS.values():
    cuts = PowerCuts(home, lambda tell: write(home, tell))
    print(len(cuts.changes), cuts.syncs, file=sys.stderr)
"""
_OF_ENTRIES = "mkdir,mkdirat,rename,renameat,renameat2,rmdir,unlink,unlinkat,link,linkat,symlink,symlinkat"
_SYNCS = "fsync,fdatasync,sync_file_range,msync"


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_cuts_see_every_change_and_every_sync_that_the_system_sees(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "base.safetensors").write_bytes(b"weights")
    log = tmp_path / "calls"
    calls = f"open,openat,creat,{_OF_ENTRIES},{_SYNCS}"
    traced = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={calls}", sys.executable, "-c", _TRACED, str(home)]
    done = subprocess.run(traced, capture_output=True, text=True, check=True)
    lines = [line for line in log.read_text().splitlines() if str(home) in line and " = -1 " not in line]
    made = sum("O_CREAT" in line or _is_call(line, _OF_ENTRIES) for line in lines)
    opened_again = 1  # the events, by their second session
    counts = [[int(number) for number in line.split()] for line in done.stderr.splitlines()]
    assert sum(changes for changes, _ in counts) == made - opened_again
    assert sum(syncs for _, syncs in counts) == sum(_is_call(line, _SYNCS) for line in lines)


def _is_call(line: str, names: str) -> bool:
    return line.split()[1].partition("(")[0] in names.split(",")
