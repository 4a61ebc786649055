"""The card's and the machine's last two minutes, sampled by a thread outside Qt and kept in the window's thread."""

import threading
from collections import deque

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.config.run_config import AUTO_CARD
from qlora_studio.jobs.gpu_monitor import GpuCard, GpuMonitor, GpuSample
from qlora_studio.jobs.process_memory import MemoryMeter, ProcessMemory

HISTORY = 120


class GpuStore(QObject):
    """Keeps samples and tells of each.

    Signals:
        changed: there is a newer sample.
    """

    changed = Signal()
    _sampled = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self.samples: deque[GpuSample] = deque(maxlen=HISTORY)
        self.memories: deque[ProcessMemory] = deque(maxlen=HISTORY)
        self.cards: tuple[GpuCard, ...] = ()  # that answered last, of this machine
        self.measured_bytes = 0
        self._monitor: GpuMonitor | None = None
        self._worker_pid: int | None = None
        self._meter: threading.Thread | None = None
        self._ending = threading.Event()
        self._sampled.connect(self.add)

    @property
    def sample(self) -> GpuSample | None:
        """The newest sample of the card, None before the first."""
        return self.samples[-1] if self.samples else None

    def start(self, wish: str = AUTO_CARD) -> None:
        """Begin to sample the card of a run's `hardware.gpus`, once a second."""
        self._monitor = GpuMonitor(self._on_monitor_sample, wish=wish, worker_pid=self._worker_pid)
        self._monitor.start()
        self._meter = threading.Thread(target=self._measure_memory, name="memory-meter", daemon=True)
        self._meter.start()

    def take_wish(self, wish: str) -> None:
        """Sample the card of another `hardware.gpus` from now on."""
        if self._monitor is not None and wish != self._monitor.wish:
            self._monitor.wish = wish
            self.samples.clear()

    def watch_worker(self, pid: int | None, uuid: str = "") -> None:
        """Tell this process's memory apart from other programs', and watch the card with this UUID, or several."""
        if pid != self._worker_pid:
            self._worker_pid, self.measured_bytes = pid, 0
        if self._monitor is not None:
            self._monitor.worker_pid, self._monitor.uuid = pid, uuid

    def add(self, sample: GpuSample | None = None, memory: ProcessMemory | None = None) -> None:
        """Keep a sample and tell of it."""
        if sample is not None:
            self.samples.append(sample)
            self.cards = sample.cards
            held = [card.worker_bytes or 0 for card in (sample, *sample.together)]
            self.measured_bytes = max(self.measured_bytes, *held)
        if memory is not None:
            self.memories.append(memory)
        self.changed.emit()

    def stop(self) -> None:
        """End the sampling."""
        self._ending.set()
        if self._monitor is not None:
            self._monitor.stop()
        if self._meter is not None:
            self._meter.join(2.0)

    def _on_monitor_sample(self, sample: GpuSample) -> None:
        self._sampled.emit(sample, None)  # in the monitor's thread; Qt carries it over

    def _measure_memory(self) -> None:
        meter = MemoryMeter()
        while not self._ending.is_set():
            if self.sample is None or not self.sample.available:  # where a card is, its own memory is shown
                self._sampled.emit(None, meter.sample(self._worker_pid))
            self._ending.wait(1.0)
