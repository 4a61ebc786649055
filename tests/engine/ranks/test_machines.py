"""Two machines train one run: network namespaces, joined by one wire. What listens is read from the kernel's tables.

The commands are a user's. On the way the wire is cut: both end in words, and the run goes on from its checkpoint.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import CheckpointSaved
from qlora_studio.engine.ranks.pulse import SILENT_SECONDS
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from tests.engine.training.test_ranks import _SETTINGS, _adapter, _losses
from tests.engine.training_run import make_run, run_to_end, wait_for

_NAMES = ("qlora-n0", "qlora-n1")
_ADDRESSES = ("10.77.0.1", "10.77.0.2")
_PORT = 29411
_LISTENS = "0A"

pytestmark = pytest.mark.slow
_by_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None,
    reason="network namespaces are made by root on Linux, by iproute2",
)


@dataclass
class _Runs:
    """A run by one process, and one by two machines: their wire was cut, both ended, and both went on."""

    alone: RunFolder
    together: RunFolder
    listening: list[set[str]]  # by each machine while both trained, as address:port in hex
    said: str  # by machine 0 before it began
    failed: list[dict[str, Any]]  # what each said when the wire was cut
    seconds: float  # from the cut to both ends
    done: list[int]  # exit codes, of the run that went on


@pytest.fixture(scope="module")
def wire() -> Iterator[None]:
    """Two machines, joined by one wire."""
    _remove()
    try:
        for name in _NAMES:
            _ip("netns", "add", name)
        _ip("link", "add", "wire0", "netns", _NAMES[0], "type", "veth", "peer", "name", "wire1", "netns", _NAMES[1])
        for number, (name, address) in enumerate(zip(_NAMES, _ADDRESSES, strict=True)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", f"wire{number}")
            for link in ("lo", f"wire{number}"):
                _ip("-n", name, "link", "set", link, "up")
    except subprocess.CalledProcessError as error:
        _remove()
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode()}")
    yield
    _remove()


@pytest.fixture(scope="module")
def runs(wire: None, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> _Runs:
    folder = tmp_path_factory.mktemp("machines")
    alone = make_run(folder / "alone", tiny_llama, *_SETTINGS)
    run_to_end(alone)
    shutil.copy(alone.path.parent / "rows.jsonl", folder / "rows.jsonl")
    config = alone.config().with_value("data.path", str(folder / "rows.jsonl"))
    file = folder / "run.toml"
    file.write_text(to_toml(config))
    machines = [_start(number, folder, "train", str(file)) for number in (0, 1)]
    wait_for(lambda: _saved(folder), 300)
    listening = [_listening(name) for name in _NAMES]
    _ip("-n", _NAMES[0], "link", "set", "wire0", "down")
    cut = time.monotonic()
    ends = [machine.communicate(timeout=300) for machine in machines]
    seconds = time.monotonic() - cut
    _ip("-n", _NAMES[0], "link", "set", "wire0", "up")
    (together,) = run_folders(folder / "home0" / "runs")
    again = [_start(0, folder, "resume", str(together.path)), _start(1, folder, "train", str(file))]
    for machine in again:
        machine.communicate(timeout=300)
    failed = [json.loads(out)["error"] for out, _ in ends]
    return _Runs(alone, together, listening, ends[0][1], failed, seconds, [machine.returncode for machine in again])


@_by_root
def test_two_machines_learn_what_one_process_learns_though_their_wire_was_cut_between(runs: _Runs) -> None:
    assert runs.done == [0, 0]
    assert _losses(runs.together) == pytest.approx(_losses(runs.alone), rel=1e-3)
    import torch

    assert torch.cosine_similarity(_adapter(runs.alone), _adapter(runs.together), dim=0) >= 0.9999


@_by_root
def test_each_machine_listens_on_the_named_interface_alone_and_says_so_before(runs: _Runs) -> None:
    first, second = ({entry.partition(":")[0] for entry in listening} for listening in runs.listening)
    assert first == {"01004D0A"}
    assert second == {"02004D0A"}
    assert f"01004D0A:{_PORT:04X}" in runs.listening[0]
    assert f"It also listens on 10.77.0.1, port {_PORT}, where the machines meet." in runs.said
    assert "Every computer of 10.77.0.0/24 reaches these ports" in runs.said


@_by_root
def test_a_wire_that_is_cut_ends_both_in_words(runs: _Runs) -> None:
    assert [error["message"] for error in runs.failed] == [
        "Machine 1 is gone: nothing is heard of it any more.",
        "Machine 0 is gone: nothing is heard of it any more.",
    ]
    assert runs.seconds < SILENT_SECONDS + 60


@pytest.mark.parametrize(
    ("setting", "rows", "words"),
    [
        (
            "training.learning_rate=1e-3",
            40,
            "The run file here is not that of machine 0: training.learning_rate differ.",
        ),
        ("name=other", 39, "The prepared rows here are not those of machine 0: "),
    ],
)
def test_a_machine_that_would_train_something_else_is_refused_in_words_on_both(
    tiny_llama: Path, tmp_path: Path, setting: str, rows: int, words: str
) -> None:
    """Before the first step, and by what it has, not by what it is called. Here the two share a computer."""
    machines = []
    for number, (own, count) in enumerate([("name=first", 40), (setting, rows)]):
        run = make_run(tmp_path / str(number), tiny_llama, *_SETTINGS, own, rows=count)
        machines.append(_start(number, tmp_path, "train", str(run.config_path), wired=False))
    ends = [json.loads(machine.communicate(timeout=300)[0])["error"]["message"] for machine in machines]
    assert ends[1].startswith(words) or ends[1].startswith(f"Worker 2 of the run: {words}")
    assert ends[0] == f"Machine 1: {ends[1]}"
    (together,) = run_folders(tmp_path / "home0" / "runs")
    assert not _losses(together)


def test_a_pause_ends_both_well_and_a_stop_on_the_other_machine_ends_both_in_words(
    tiny_llama: Path, tmp_path: Path
) -> None:
    settings = (*_SETTINGS, "training.max_steps=5000", "checkpoint.every_steps=4", "evaluation.every_steps=0")
    file = make_run(tmp_path / "made", tiny_llama, *settings).config_path
    machines = [_start(number, tmp_path, "train", str(file), wired=False) for number in (0, 1)]
    wait_for(lambda: _saved(tmp_path), 300)
    (together,) = run_folders(tmp_path / "home0" / "runs")
    together.send(Pause())
    ends = [json.loads(machine.communicate(timeout=300)[0]) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert [end["status"] for end in ends] == ["paused", "completed"]
    step = together.state().step
    again = [("resume", str(together.path)), ("train", str(file))]
    machines = [_start(number, tmp_path, *words, wired=False) for number, words in enumerate(again)]
    wait_for(lambda: together.state().step > step, 300)
    machines[1].send_signal(signal.SIGINT)
    first, second = (json.loads(machine.communicate(timeout=300)[0])["error"] for machine in machines)
    assert first["message"] == "Machine 1: It was stopped there."
    assert second["message"].startswith("Stopped. The run ends on all machines: resume it on machine 0")


def _start(number: int, folder: Path, *arguments: str, wired: bool = True) -> "subprocess.Popen[str]":
    address, interface = (_ADDRESSES[0], f"wire{number}") if wired else ("127.0.0.1", "lo")
    act = ["--machines", "2", "--machine", str(number), "--meet", f"{address}:{_PORT}"]
    act += ["--interface", interface, "--trust-network", "--json"]
    within = ["ip", "netns", "exec", _NAMES[number]] if wired else []
    return subprocess.Popen(
        [*within, sys.executable, "-P", "-m", "qlora_studio", *arguments, *act],
        env={**os.environ, "QLORA_STUDIO_HOME": str(folder / f"home{number}")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _saved(folder: Path) -> bool:
    """Whether the run of machine 0 has a checkpoint."""
    found = [run for run in run_folders(folder / "home0" / "runs") if run.events_path.exists()]
    assert not any(run.state().failure for run in found), [run.state().failure for run in found]
    return any(isinstance(event, CheckpointSaved) for run in found for event in run.events())


def _listening(name: str) -> set[str]:
    """Return what a whole machine listens on, as the kernel's tables write it."""
    tables = _ip("netns", "exec", name, "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    return {row.split()[1] for row in tables if row.split()[3] == _LISTENS}


def _remove() -> None:
    for name in _NAMES:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True).stdout.decode()
