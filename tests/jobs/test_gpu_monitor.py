"""The card is measured in a thread of its own, and where there is none the reason is told."""

import threading

import pynvml
import pytest

from qlora_studio.jobs.gpu_monitor import GpuMonitor, GpuSample, gpu_cards, sample_gpu
from qlora_studio.jobs.nvml import absence_in_words


def has_card() -> bool:
    return bool(gpu_cards())


@pytest.mark.skipif(has_card(), reason="this machine has an NVIDIA card")
def test_without_a_card_the_sample_says_why() -> None:
    sample = sample_gpu()

    assert not sample.available
    assert sample.reason.endswith(".")
    assert sample.total_bytes is None


def test_the_monitor_tells_its_first_sample_and_ends_at_once() -> None:
    first = threading.Event()
    seen: list[tuple[GpuSample, str]] = []

    def take(sample: GpuSample) -> None:
        seen.append((sample, threading.current_thread().name))
        first.set()

    monitor = GpuMonitor(take)
    monitor.start()
    assert first.wait(30)
    monitor.stop()

    assert not monitor.is_alive()
    assert seen[0][1] == "gpu-monitor"


def test_a_missing_driver_is_told_in_words() -> None:
    error = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    assert absence_in_words(error) == "No NVIDIA driver is installed."


@pytest.mark.gpu
@pytest.mark.skipif(not has_card(), reason="needs an NVIDIA card")
def test_a_card_is_measured() -> None:
    sample = sample_gpu()

    assert sample.available
    assert sample.name
    assert sample.total_bytes is not None and sample.total_bytes > 1 << 30
    assert sample.used_bytes is not None and sample.free_bytes is not None
    assert sample.used_bytes + sample.free_bytes + (sample.reserved_bytes or 0) == pytest.approx(
        sample.total_bytes, rel=0.01
    )
