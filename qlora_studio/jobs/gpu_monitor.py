"""Measures the graphics card once a second, in a thread of its own; the window never waits for the driver."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pynvml

from qlora_studio.core.config.run_config import AUTO_CARD
from qlora_studio.jobs.gpu_sample import GpuCard, GpuProcess, GpuSample
from qlora_studio.jobs.nvml import Nvml, absence_in_words

__all__ = ["GpuCard", "GpuMonitor", "GpuProcess", "GpuSample", "gpu_cards", "sample_gpu"]

_RETRY_SECONDS = 30.0  # a driver may be loaded later; asking it costs little


class GpuMonitor(threading.Thread):
    """Calls `on_sample`, in this thread, with each sample. `stop` ends it at once.

    `wish` is a run's `hardware.gpus`; `uuid` is the card that a run at work computes on, or several with commas
    between, and goes before it. `worker_pid` tells our own worker from other programs. All may be set at any time.
    """

    def __init__(
        self,
        on_sample: Callable[[GpuSample], None] | None = None,
        *,
        wish: str = AUTO_CARD,
        uuid: str = "",
        worker_pid: int | None = None,
        interval: float = 1.0,
    ) -> None:
        super().__init__(name="gpu-monitor", daemon=True)
        self.wish = wish
        self.uuid = uuid
        self.worker_pid = worker_pid
        self._on_sample = on_sample
        self._interval = interval
        self._ending = threading.Event()
        self._seen: GpuSample | None = None

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and wait for it."""
        self._ending.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout)

    def run(self) -> None:
        """Sample until stopped; a driver that is not there is asked again from time to time."""
        while not self._ending.is_set():
            try:
                nvml = Nvml()
            except pynvml.NVMLError as error:
                self._tell(GpuSample(available=False, reason=absence_in_words(error), time=time.time()))
                self._ending.wait(_RETRY_SECONDS)
                continue
            self._sample_until_lost(nvml)

    def _sample_until_lost(self, nvml: Nvml) -> None:
        """Sample until stopped, or until the card does not answer: then the session is opened anew."""
        try:
            while not self._ending.is_set():
                sample = nvml.sample(self.wish, self.worker_pid, self.uuid)
                self._tell(sample)
                has_cards = bool(sample.cards) and not self._is_lost(sample)
                self._ending.wait(self._interval if has_cards else _RETRY_SECONDS)
                if not has_cards:
                    return
        finally:
            nvml.close()

    def _tell(self, sample: GpuSample) -> None:
        if self._is_lost(sample) and self._seen is not None:
            sample = replace(sample, is_lost=True, name=self._seen.name, uuid=self._seen.uuid)
        elif sample.available:
            self._seen = sample
        if self._on_sample is not None:
            self._on_sample(sample)

    def _is_lost(self, sample: GpuSample) -> bool:
        """Whether the card that was measured last answers no more."""
        here = {card.uuid for card in sample.cards}
        return not sample.available and self._seen is not None and self._seen.uuid not in here


def sample_gpu(wish: str = AUTO_CARD) -> GpuSample:
    """Return one sample of the card that a run's `hardware.gpus` means, now."""
    try:
        nvml = Nvml()
    except pynvml.NVMLError as error:
        return GpuSample(available=False, reason=absence_in_words(error), time=time.time())
    try:
        return nvml.sample(wish)
    finally:
        nvml.close()


def gpu_cards() -> tuple[GpuCard, ...]:
    """Return the NVIDIA cards of this machine; none where there is no driver."""
    try:
        nvml = Nvml()
    except pynvml.NVMLError:
        return ()
    try:
        return nvml.cards()
    finally:
        nvml.close()
