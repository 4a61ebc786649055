"""What a worker holds in memory is measured with its children; a worker that is gone has none."""

import os
import subprocess
import sys

from qlora_studio.jobs.process_memory import MemoryMeter, sample_memory


def test_the_memory_of_a_living_process_is_measured() -> None:
    sample = sample_memory(os.getpid())

    assert sample.worker_bytes is not None
    assert 1 << 20 < sample.worker_bytes < sample.machine_total_bytes
    assert 0 < sample.machine_available_bytes <= sample.machine_total_bytes


def test_a_process_that_ended_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert sample_memory(child.pid).worker_bytes is None
    assert sample_memory().worker_bytes is None


def test_a_worker_that_ends_between_two_samples_holds_nothing_any_more() -> None:
    meter = MemoryMeter()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = meter.sample(child.pid).worker_bytes
    child.communicate(b"\n")

    assert alive is not None
    assert meter.sample(child.pid).worker_bytes is None
