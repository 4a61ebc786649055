"""Nothing leaves the computer: a whole run makes no connection and opens no port."""

from pathlib import Path

import psutil
import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import StepDone
from qlora_studio.jobs.worker_process import start_worker
from tests.engine.training_run import follow, make_run

_NO_NETWORK = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        print("NETWORK", event, arguments, file=sys.stderr, flush=True)
sys.addaudithook(refuse)
"""


def test_a_run_looks_up_no_host_connects_to_nothing_and_listens_nowhere(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the hub allowed: no HF_HUB_OFFLINE that would hide an attempt."""
    (tmp_path / "sitecustomize.py").write_text(_NO_NETWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = make_run(tmp_path / "runs", tiny_llama, "training.max_steps=2", "export.merge=true", rows=8)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone))
    supervisor = psutil.Process(process.pid)
    sockets = [item for one in (supervisor, *supervisor.children(recursive=True)) for item in one.net_connections()]
    connections = [item for item in sockets if item.family.name != "AF_UNIX"]
    follow(process)
    assert folder.state().phase is Phase.FINISHED, folder.state().failure
    assert connections == []
    assert "NETWORK" not in folder.log_path.read_text("utf-8")
