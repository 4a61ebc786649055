"""What a worker holds in memory is measured with its children; a worker that is gone has none."""

import os
import subprocess
import sys

from qlora_studio.jobs.process_memory import resident_bytes, sample_memory


def test_the_memory_of_a_living_process_is_measured() -> None:
    sample = sample_memory(os.getpid())

    assert sample.worker_bytes is not None
    assert 1 << 20 < sample.worker_bytes < sample.machine_total_bytes
    assert 0 < sample.machine_available_bytes <= sample.machine_total_bytes


def test_a_process_that_ended_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert resident_bytes(child.pid) is None
    assert sample_memory().worker_bytes is None
