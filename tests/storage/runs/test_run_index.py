"""The index of runs says what the run folders say, whatever happened to them or to it."""

import json
import os
import shutil
import stat
import sys
import zlib
from argparse import Namespace
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qlora_studio.cli.console import Console
from qlora_studio.cli.watch_command import list_runs
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run import events as ev
from qlora_studio.core.run import run_state
from qlora_studio.core.run.activity import Activity
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.run_index import RunIndex

_LONG_AGO = 1_700_000_000
_EVENTS: tuple[ev.Event, ...] = (
    ev.WorkerStarted(job="train", studio="0", pid=1, time=1.0),
    ev.PhaseChanged(phase=Activity.LOADING_MODEL, time=2.0),
    ev.AdapterContinued(parent="first", stages=["a", "b"], time=3.0),
    ev.TrainingStarted(step=0, total_steps=9, time=4.0),
    ev.StepDone(step=3, total_steps=9, epoch=0.5, loss=1.0, learning_rate=1e-4, energy_joules=7.5, time=5.0),
    ev.StepDone(step=4, total_steps=9, epoch=0.6, loss=0.9, learning_rate=1e-4, energy_joules=9.5, time=6.0),
    ev.Evaluated(step=4, loss=0.75, perplexity=2.1, energy_joules=10.5, time=7.0),
    ev.Evaluated(step=4, loss=None, perplexity=None, time=8.0),
    ev.Recovering(kind=FailureKind.CARD_LOST, message="", step=4, batch_size=1, gradient_accumulation=1, time=9.0),
    ev.AdapterSaved(path="/runs/x/adapter", step=9, time=10.0),
    ev.Resumed(step=2, checkpoint="checkpoint-2", time=11.0),
    ev.Paused(step=4, checkpoint="checkpoint-4", time=12.0),
    ev.Failed(kind=FailureKind.INTERRUPTED, message="Ended at once.", time=13.0),
    ev.Finished(status="stopped", time=14.0),
    ev.Finished(time=15.0),
)
_LINES = [event.to_line().encode() for event in _EVENTS]
_OTHERS = [b"\n", b"{}\n", b'{"type": "of_tomorrow", "time": 1}\n', b"\xff\n", b'{"version": 9, "type": "step_done"}\n']
_LINE = st.sampled_from(_LINES * 3 + _OTHERS)


@pytest.fixture
def runs(studio_home: Path) -> Path:
    return studio_home / "runs"


@pytest.fixture
def index_file(studio_home: Path) -> Path:
    return studio_home / "cache" / "runs.jsonl"


def make_run(path: Path, data: bytes = b"".join(_LINES[:7])) -> RunFolder:
    folder = RunFolder(path)
    folder.write_config(RunConfig(name=path.name))
    folder.events_path.write_bytes(data)
    settle(folder)
    return folder


def settle(folder: RunFolder, when: float = _LONG_AGO) -> None:
    """Let the last change of a run's files be long ago."""
    for path in (folder.config_path, folder.events_path):
        if path.exists():
            os.utime(path, (when, when))


def told(runs: Path, index: RunIndex | None = None) -> dict[str, str]:
    """What an index says of each run: a new one, as another process has it, where none is named."""
    return {folder.path.name: _words(known) for folder, known in (index or RunIndex()).listed(runs)}


def _words(known: object) -> str:
    return f"! {known.message}" if isinstance(known, StudioError) else repr(known)


def folded(folder: RunFolder) -> dict[str, object] | str:
    """What the run's files amount to, all of them read; or why they cannot be."""
    log = folder.event_log()
    try:
        name = folder.config().name
        state = reduce(run_state.reduce, log.all(), run_state.RunState())
    except StudioError as error:
        return error.message
    return {
        "name": name,
        "phase": state.phase,
        "failure_kind": state.failure.kind if state.failure else None,
        "step": state.step,
        "total_steps": state.total_steps,
        "evaluation_loss": state.evaluation.loss if state.evaluation else None,
        "last_event": state.last_event,
        "adapter_path": state.adapter_path,
        "parent": state.parent.words if state.parent else "",
        "damage": log.damage,
        "energy": state.energy,
        "energy_before": state.energy_before,
    }


_OF_MODEL = {"source", "rank", "parameters", "text_model"}


def said(runs: Path, index: RunIndex) -> dict[str, object] | str:
    """What an index says of the one run, as `folded` does."""
    ((_, known),) = index.listed(runs)
    return known.message if isinstance(known, StudioError) else known.model_dump(exclude=_OF_MODEL)


def do(folder: RunFolder, deed: tuple[str, bytes, float]) -> None:
    """Do something to a run's files, as a worker, a user or a copy would."""
    what, data, share = deed
    path = folder.events_path
    before = path.read_bytes() if path.exists() else b""
    at = int(share * len(before))
    match what:
        case "append":
            with path.open("ab") as file:
                file.write(data)
        case "cut":
            with path.open("ab") as file:
                file.truncate(at)
        case "replace":
            write_atomically(path, before[:at] + data)
        case "write over":
            path.write_bytes(data)
        case "change within" if before:
            with path.open("r+b") as file:
                file.seek(min(at, len(before) - 1))
                file.write(b"7")
        case "rename":
            folder.write_config(RunConfig(name=f"name {at}"))
        case "remove":
            path.unlink(missing_ok=True)
        case "make anew":
            shutil.rmtree(folder.path)
            folder.write_config(RunConfig(name="anew"))
            path.write_bytes(data)


_DEEDS = ["append"] * 4 + ["cut", "replace", "write over", "change within", "rename", "remove", "make anew"]
_DATA = st.lists(_LINE, max_size=6).flatmap(
    lambda lines: st.sampled_from([b"", *_LINES]).map(lambda half: b"".join(lines) + half[: len(half) // 2])
)
_STEP = st.tuples(st.tuples(st.sampled_from(_DEEDS), _DATA, st.floats(0, 1)), st.booleans(), st.integers(0, 2))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(_STEP, min_size=1, max_size=7))
def test_an_index_says_what_all_the_events_say_whatever_happened_to_them(
    steps: list[tuple[tuple[str, bytes, float], bool, int]], runs: Path
) -> None:
    """Two windows look at times, and so does a command, each after another time has passed or none."""
    shutil.rmtree(runs, ignore_errors=True)
    folder = make_run(runs / "run")
    windows = [RunIndex(), RunIndex()]
    for number, (deed, is_later, who) in enumerate(steps):
        do(folder, deed)
        if is_later:
            settle(folder, _LONG_AGO + number + 1)
        assert said(runs, [*windows, RunIndex()][who]) == folded(folder)


def altered(line: bytes, step: int, **changes: object) -> bytes:
    """Return a line of the index that tells of another step, and more, with the checksum that it would bear."""
    entry = json.loads(line.split(b" ", 1)[1])
    entry["summary"]["step"] = step
    text = json.dumps(entry | changes).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def test_a_run_that_is_as_it_was_is_not_read_again(runs: Path, index_file: Path) -> None:
    folder = make_run(runs / "run")
    told(runs)
    index_file.write_bytes(altered(index_file.read_bytes().strip(), step=77))
    assert "step=77" in told(runs)["run"]
    with folder.events_path.open("ab") as file:
        file.write(_LINES[2])
    assert "step=77" in told(runs)["run"]  # read on from there
    write_atomically(folder.events_path, b"".join(_LINES[:5]))
    assert "step=3," in told(runs)["run"]


@pytest.mark.parametrize("change", [{"made_by": "0 1 0.1.0"}, {"path": "/another/run"}, {"more": 1}, {"looked": "1"}])
def test_what_another_version_made_of_a_run_is_not_believed(
    runs: Path, index_file: Path, change: dict[str, object]
) -> None:
    make_run(runs / "run")
    told(runs)
    index_file.write_bytes(altered(index_file.read_bytes().strip(), 77, **change))
    assert "step=4," in told(runs)["run"]


def test_windows_and_commands_write_at_once_and_the_file_is_its_users_alone(runs: Path, index_file: Path) -> None:
    for name in ("a", "b"):
        make_run(runs / name)
    one, other = RunIndex(), RunIndex()
    one.listed(runs)
    make_run(runs / "c")
    assert told(runs, other) == told(runs, one) == told(runs)
    assert index_file.read_bytes().count(b'"summary"') == 4  # of two, and of one that both wrote
    assert stat.S_IMODE(index_file.stat().st_mode) == 0o600


def test_a_run_that_is_gone_vanishes_from_the_index_and_those_of_other_folders_stay(
    runs: Path, index_file: Path
) -> None:
    for place in (runs / "a", runs / "b", runs.parent / "elsewhere" / "c"):
        make_run(place)
        told(place.parent)
    shutil.rmtree(runs / "a")
    assert list(told(runs)) == ["b"]
    words = index_file.read_text()
    assert str(runs / "a") not in words
    assert str(runs / "b") in words and "elsewhere" in words
    assert stat.S_IMODE(index_file.stat().st_mode) == 0o600


def test_the_index_does_not_grow_with_the_events_of_a_run(runs: Path, index_file: Path) -> None:
    folder = make_run(runs / "run")
    index = RunIndex()
    for number in range(150):
        with folder.events_path.open("ab") as file:
            file.write(_LINES[4])
        settle(folder, _LONG_AGO + number)
        index.listed(runs)
    assert index_file.read_bytes().count(b'"summary"') < 80
    assert told(runs) == told(runs, index)


def test_any_byte_of_the_index_may_be_damaged(runs: Path, index_file: Path) -> None:
    for name in ("a", "b"):
        make_run(runs / name)
    right = told(runs)
    whole = index_file.read_bytes()
    for at in range(0, len(whole), 5):
        index_file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert told(runs) == right
    for data in (b"", whole[:-40], whole[-40:], whole * 3, b"\0" * 5000, whole.replace(b"\n", b"")):
        index_file.write_bytes(data)
        assert told(runs) == right
        assert told(runs) == right


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "unwritable"])
def test_what_stands_in_the_place_of_the_index_is_no_error(kind: str, runs: Path, index_file: Path) -> None:
    make_run(runs / "run")
    index_file.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = runs.parent / "mine.txt"
    elsewhere.write_text("mine")
    match kind:
        case "pipe":
            os.mkfifo(index_file)
        case "folder":
            index_file.mkdir()
        case "link":
            index_file.symlink_to(elsewhere)
        case _:
            index_file.parent.rename(runs.parent / "aside")
            index_file.parent.write_text("a file")
    assert told(runs) == told(runs)
    assert "step=4," in told(runs)["run"]
    assert elsewhere.read_text() == "mine"


def test_a_run_that_cannot_be_read_says_why_each_time_and_is_read_once_it_can(runs: Path) -> None:
    folder = make_run(runs / "run")
    right = told(runs)
    whole = folder.config_path.read_bytes()
    for damage in (b"\xff", b"[lora]\nrank = 0\n"):
        folder.config_path.write_bytes(damage)
        settle(folder)
        assert told(runs)["run"].startswith("! ") and told(runs) == told(runs)
    folder.config_path.unlink()
    assert "has no run.toml" in told(runs)["run"]
    folder.config_path.write_bytes(whole)
    assert told(runs) == right
    folder.events_path.unlink()
    folder.events_path.symlink_to("/dev/zero")
    assert "cannot be read" in told(runs)["run"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_a_run_in_a_folder_whose_name_is_no_text_is_read_each_time(runs: Path, index_file: Path) -> None:
    strange = runs.parent / os.fsdecode(b"caf\xe9")
    make_run(strange / "run")
    make_run(runs / "run")
    assert told(strange) == told(runs) == told(strange)
    assert index_file.read_bytes().count(b'"summary"') == 1


def test_who_is_at_work_and_who_trusts_is_asked_each_time(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(runs / "run", b"".join(_LINES[:5]))

    def listed() -> tuple[str, bool]:
        list_runs(Namespace(runs=str(runs)), Console(json=True))
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        return run["status"], run["trusted"]

    assert listed() == ("lost", True)
    with folder.lock().acquire(blocking=False):
        assert listed() == ("training", True)
    assert listed() == ("lost", True)
    folder.path.rename(runs / "renamed")
    assert listed() == ("lost", False)
