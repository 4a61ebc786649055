"""A merge that is killed, or runs out of disk, at any moment leaves nothing that could be taken for a model."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.storage.runs.export_folder import damages
from tests.engine.families import make_adapter, make_base
from tests.engine.finished_run import make_run

resource = pytest.importorskip("resource", reason="Windows has no SIGKILL and no limits on the size of files")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_MERGE = """
import os, signal, sys
from pathlib import Path
from qlora_studio.engine.merge.writer import merge_adapter
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


@pytest.mark.parametrize("shape", ["safetensors", pytest.param("ollama:f16", marks=pytest.mark.slow)])
def test_an_export_killed_before_anything_it_does_to_a_file_leaves_no_half_made_one(tmp_path: Path, shape: str) -> None:
    """A few moments of the many; all of them in the long form."""
    assert killed_exports(tmp_path, shape, step=9) >= 4


@pytest.mark.faults
@pytest.mark.parametrize("shape", ["safetensors", "gguf:q8_0", "adapter", "gguf_adapter", "ollama:f16"])
def test_an_export_killed_before_everything_it_does_to_a_file_leaves_no_half_made_one(
    tmp_path: Path, shape: str
) -> None:
    assert killed_exports(tmp_path, shape, step=1) >= 25


@pytest.mark.parametrize("shape", ["safetensors", "gguf:q8_0", "ollama:f16"])
def test_a_disk_that_is_full_at_any_size_of_a_file_leaves_nothing(tmp_path: Path, shape: str) -> None:
    run = make_run(tmp_path / "made")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [500 * 2**number for number in range(8)]  # up to 64 kB: the smallest weights are larger
    for size in sizes:
        with pytest.raises(StudioError) as caught:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            try:
                export_run(run, formats=[shape], out_dir=str(tmp_path / "exports" / "x"), channel=QUIET)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.kind == "disk_full", size
        assert list((tmp_path / "exports").iterdir()) == []


def killed_exports(folder: Path, shape: str, *, step: int) -> int:
    """Return how often an export was killed before one came to its end."""
    run = make_run(folder / "made")
    arguments = [str(run.path), shape, str(folder / "exports" / "model"), str(step)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.engine.merge.killed_export", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return int(done.stdout.split()[-1])


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
