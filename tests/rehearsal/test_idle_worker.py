"""A worker that waits on a machine with a card: it has touched nothing of it when its run comes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engine.training_run import make_run

_WINDOW = """
import json, os, sys, time
from pathlib import Path
import psutil
from qlora_studio.jobs.card_choice import card_environment
from qlora_studio.jobs.gpu_monitor import gpu_cards
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder

def loaded(process, library):
    return library in Path(f"/proc/{process.pid}/maps").read_text()

idle = IdleWorker()
idle.keep(card_environment("auto", gpu_cards(), os.environ))
deadline, workers = time.monotonic() + 120, []
while not (workers and loaded(workers[0], "libarrow")):
    assert time.monotonic() < deadline
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if child.ppid() != os.getpid() and "idle-worker" in child.cmdline()]
    time.sleep(0.1)
before = loaded(workers[0], "bitsandbytes")
folder = RunFolder(sys.argv[1])
process = start_worker(folder, idle=idle)
for _ in RunFollower(folder, process).batches():
    pass
state = folder.state()
started = next(folder.events())
print(json.dumps([before, started.pid == workers[0].pid, state.model.card, state.step, process.wait(30)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has loaded is read from /proc")
def test_a_worker_that_waited_has_not_touched_the_card_and_trains_on_it(
    machine: Callable[..., None], run_python: Callable[..., CompletedProcess[str]], tiny_llama: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs", tiny_llama, "training.max_steps=1")
    machine()

    touched, itself, card, step, code = json.loads(run_python(_WINDOW, str(run.path)).stdout.splitlines()[-1])

    assert not touched
    assert (itself, step, code) == (True, 1, 0)
    assert card == "GPU-11111111-2222-3333-4444-555555555555"
