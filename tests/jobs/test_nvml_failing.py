"""NVIDIA's library fails in any of its calls: what that call would have told is missing, and nothing else changes.

There is no card here, so the library's functions are answered as a card would, but for the one that fails.
"""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from qlora_studio.jobs.gpu_monitor import GpuMonitor, GpuSample, gpu_cards, sample_gpu

_GIB = 1 << 30
_ANSWERS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlShutdown": None,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": SimpleNamespace(),
    "nvmlDeviceGetUUID": "GPU-test",
    "nvmlDeviceGetName": "NVIDIA RTX 4060",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=8 * _GIB, used=2 * _GIB, free=6 * _GIB, reserved=0),
    "nvmlDeviceGetComputeRunningProcesses": [],
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetPowerUsage": 100_000,
    "nvmlDeviceGetEnforcedPowerLimit": 115_000,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=90, memory=40),
    "nvmlDeviceGetCudaComputeCapability": (8, 9),
    "nvmlDeviceGetTemperature": 60,
    "nvmlDeviceGetClockInfo": 2400,
    "nvmlSystemGetDriverVersion": "580.95",
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
}
_ERRORS = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Put a card into place; return how to let one of its calls fail."""

    def answer(value: Any) -> Callable[..., Any]:
        return lambda *_args, **_more: value

    for name, value in _ANSWERS.items():
        if hasattr(pynvml, name):
            monkeypatch.setattr(pynvml, name, answer(value))

    def fail(name: str, error: int) -> None:
        def call(*_args: Any, **_more: Any) -> Any:
            raise pynvml.NVMLError(error)

        monkeypatch.setattr(pynvml, name, call)

    return fail


def test_a_card_that_answers_is_measured(card: Callable[[str, int], None]) -> None:
    sample = sample_gpu()
    assert sample.available
    assert (sample.name, sample.total_bytes, sample.temperature_celsius) == ("NVIDIA RTX 4060", 8 * _GIB, 60)


@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("name", [name for name in _ANSWERS if hasattr(pynvml, name)])
def test_any_call_may_fail(card: Callable[[str, int], None], name: str, error: int) -> None:
    card(name, error)
    sample, cards = sample_gpu(), gpu_cards()
    assert sample.available or sample.reason.endswith(".")
    assert isinstance(cards, tuple)
    if name not in ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"):
        assert sample.available


def test_the_monitor_tells_of_a_card_that_is_lost_while_it_looks(card: Callable[[str, int], None]) -> None:
    seen: list[GpuSample] = []
    first, lost = threading.Event(), threading.Event()

    def take(sample: GpuSample) -> None:
        seen.append(sample)
        (first if sample.available else lost).set()

    monitor = GpuMonitor(take, interval=0.01)
    monitor.start()
    assert first.wait(30)
    card("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_GPU_IS_LOST)
    assert lost.wait(30)
    monitor.stop()
    assert seen[-1].reason.endswith(".")
    assert (seen[0].is_lost, seen[-1].is_lost, seen[-1].name) == (False, True, "NVIDIA RTX 4060")


def test_the_card_of_the_wish_is_measured_and_all_are_told(
    card: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cards that differ in their number, their UUID and what is free."""
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}")
    monkeypatch.setattr(
        pynvml,
        "nvmlDeviceGetMemoryInfo",
        lambda handle, *_: SimpleNamespace(total=24 * _GIB, used=0, free=(2 + handle) * _GIB, reserved=0),
    )
    assert [sample_gpu(wish).uuid for wish in ("auto", "0", "GPU-0", "GPU-1")] == ["GPU-1", "GPU-0", "GPU-0", "GPU-1"]
    assert [found.free_bytes for found in sample_gpu().cards] == [2 * _GIB, 3 * _GIB]
    for wish, words in (("cpu", "processor was chosen"), ("GPU-7", "not in this computer")):
        sample = sample_gpu(wish)
        assert (sample.available, words in sample.reason, len(sample.cards)) == (False, True, 2)
