"""A merge that is killed, or runs out of disk, at any moment leaves nothing that could be taken for a model."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from qlora_studio.core.problem import StudioError
from qlora_studio.engine.merge import merge_adapter
from qlora_studio.storage.export_folder import damages
from tests.engine.families import make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_MERGE = """
import os, signal, sys
from pathlib import Path
from qlora_studio.engine.merge import merge_adapter
base, adapter, out, moment = sys.argv[1:]
calls = 0
def progress(done, total):
    global calls
    calls += 1
    if calls == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
merge_adapter(Path(base), Path(adapter), Path(out), progress=progress)
"""


@pytest.mark.parametrize("moment", [1, 12, 21])
def test_a_killed_merge_leaves_no_model_and_the_next_one_is_whole(tmp_path: Path, moment: int) -> None:
    base = make_base(tmp_path / "base", "llama", shard="100KB")
    adapter = make_adapter(tmp_path / "adapter", base)
    out = tmp_path / "exports" / "model"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MERGE, str(base), str(adapter), str(out), str(moment)]
    )
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".staging-")] == []
    merge_adapter(base, adapter, out)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert damages(out) == []


@pytest.mark.parametrize("limit", [1_000, 50_000, 200_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit: int) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StudioError) as caught:
            merge_adapter(base, adapter, tmp_path / "exports" / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.kind == "disk_full"
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.faults
def test_merges_killed_at_many_moments_leave_no_model(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", dtype=torch.bfloat16, hidden_size=512, num_hidden_layers=4)
    adapter = make_adapter(tmp_path / "adapter", base)
    out = tmp_path / "exports" / "model"
    command = [sys.executable, "-W", "ignore", "-c", _MERGE, str(base), str(adapter), str(out), "-1"]
    for number in range(20):
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not list(out.parent.glob(".staging-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005 * number)
        process.kill()
        process.wait()
        if out.exists():
            assert damages(out) == []
            return
    assert not out.exists()
