"""Nothing leaves the computer: a whole run makes no connection, opens no port, and is for its user alone to read."""

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import StepDone
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import follow, make_run

_NO_NETWORK = """
import socket, sys
def refuse(event, arguments):
    is_socket = event in ("socket.connect", "socket.bind", "socket.sendto") and arguments[0].family != socket.AF_UNIX
    if is_socket or event == "socket.getaddrinfo":
        print("NETWORK", event, arguments, file=sys.stderr, flush=True)
sys.addaudithook(refuse)
"""

# A package that transformers and bitsandbytes fetch compiled code from the hub with, where somebody has installed it.
_KERNELS = "import sys; print('NETWORK by kernels', file=sys.stderr, flush=True)"


_SECRETS = {name: f"planted-{name.lower()}-0123456789" for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY")}


@dataclass(frozen=True)
class WholeRun:
    """A run to its export: what it connected to meanwhile, how its processes were called, and the user's umask."""

    run: RunFolder
    home: Path
    connections: list[Any]
    command_lines: list[str]
    umask: int


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeRun]:
    """With the hub allowed: no HF_HUB_OFFLINE that would hide an attempt."""
    place, umask = tmp_path_factory.mktemp("whole"), 0o002
    (place / "sitecustomize.py").write_text(_NO_NETWORK)
    (place / "kernels.py").write_text(_KERNELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
        patch.setenv("QLORA_STUDIO_HOME", str(place / "home"))
        patch.delenv("HF_HUB_OFFLINE")
        for name, secret in _SECRETS.items():
            patch.setenv(name, secret)
        before = os.umask(umask)
        try:
            run = make_run(place / "runs", tiny_llama, "training.max_steps=2", "export.merge=true", rows=8)
            process = start_worker(run)
            follow(process, lambda event: isinstance(event, StepDone))
            supervisor = psutil.Process(process.pid)
            family = (supervisor, *supervisor.children(recursive=True))
            connections = [item for one in family for item in one.net_connections() if item.family.name != "AF_UNIX"]
            command_lines = [word for one in family for word in one.cmdline()]
            follow(process)
        finally:
            os.umask(before)
    assert run.state().phase is Phase.FINISHED, run.state().failure
    yield WholeRun(run, place / "home", connections, command_lines, umask)


def test_a_run_looks_up_no_host_connects_to_nothing_and_listens_nowhere(whole: WholeRun) -> None:
    assert whole.connections == []
    assert "NETWORK" not in whole.run.log_path.read_text("utf-8")


def test_no_secret_of_the_environment_is_in_a_file_or_a_command_line(whole: WholeRun) -> None:
    """Not in events, logs, the export's model card, the cache or the settings."""
    files = [path for folder in (whole.home, whole.run.path) for path in folder.rglob("*") if path.is_file()]

    assert {"events.jsonl", "worker.log", "README.md"} <= {path.name for path in files}
    assert len(whole.command_lines) > 5
    for secret in _SECRETS.values():
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert [word for word in whole.command_lines if secret in word] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_every_file_of_a_run_is_its_users_alone_and_those_of_its_exports_are_as_any_file_of_the_user(
    whole: WholeRun,
) -> None:
    made = [whole.run.path, *whole.run.path.rglob("*")]
    exported = [path for path in made if path.is_relative_to(whole.run.exports_path)]
    private = [*whole.home.rglob("*"), *(path for path in made if path not in exported)]

    assert len(private) > 30 and len(exported) > 10
    assert _wrong(private, 0o077) == {}
    assert _wrong(exported, whole.umask) == {}


def _wrong(paths: list[Path], umask: int) -> dict[str, str]:
    """Return what has other permissions than an umask leaves."""
    return {
        str(path): oct(mode)
        for path in paths
        if (mode := stat.S_IMODE(path.lstat().st_mode)) != (0o777 if path.is_dir() else 0o666) & ~umask
    }
