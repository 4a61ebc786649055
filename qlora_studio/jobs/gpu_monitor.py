"""Measures the graphics card once a second, in a thread of its own; the window never waits for the driver."""

import threading
import time
from collections.abc import Callable

import pynvml

from qlora_studio.jobs.gpu_sample import GpuCard, GpuProcess, GpuSample
from qlora_studio.jobs.nvml import Nvml, absence_in_words

__all__ = ["GpuCard", "GpuMonitor", "GpuProcess", "GpuSample", "gpu_cards", "sample_gpu"]

_RETRY_SECONDS = 30.0  # a driver may be loaded later; asking it costs little


class GpuMonitor(threading.Thread):
    """Calls `on_sample`, in this thread, with each sample. `stop` ends it at once.

    `uuid` chooses the card and `worker_pid` tells our own worker from other programs; both may be set at any time.
    """

    def __init__(
        self,
        on_sample: Callable[[GpuSample], None] | None = None,
        *,
        uuid: str = "",
        worker_pid: int | None = None,
        interval: float = 1.0,
    ) -> None:
        super().__init__(name="gpu-monitor", daemon=True)
        self.uuid = uuid
        self.worker_pid = worker_pid
        self._on_sample = on_sample
        self._interval = interval
        self._ending = threading.Event()

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
                sample = nvml.sample(self.uuid, self.worker_pid)
                self._tell(sample)
                self._ending.wait(self._interval if sample.available else _RETRY_SECONDS)
                if not sample.available:
                    return
        finally:
            nvml.close()

    def _tell(self, sample: GpuSample) -> None:
        if self._on_sample is not None:
            self._on_sample(sample)


def sample_gpu(uuid: str = "", worker_pid: int | None = None) -> GpuSample:
    """Return one sample, now."""
    try:
        nvml = Nvml()
    except pynvml.NVMLError as error:
        return GpuSample(available=False, reason=absence_in_words(error), time=time.time())
    try:
        return nvml.sample(uuid, worker_pid)
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
