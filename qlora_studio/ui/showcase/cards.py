"""The panel with cards that are not here: alone, busy, a laptop's, one of two, four together, lost, a driver too old.

Their figures are recorded ones, or such as NVIDIA's library tells of such cards; no run was trained for them.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlora_studio.core.config.run_config import ALL_CARDS, AUTO_CARD, RunConfig
from qlora_studio.core.memory.estimator import estimate_setup
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.quantity import GIB, MIB
from qlora_studio.jobs.gpu_sample import GpuCard, GpuProcess, GpuSample
from qlora_studio.jobs.process_memory import ProcessMemory
from qlora_studio.storage.models.catalogue import model_catalogue
from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QPixmap
    from PySide6.QtWidgets import QApplication

    from qlora_studio.ui.memory.panel import GpuPanel

_WIDTH, _GAP = 300, 12
_HEIGHTS = {"": 900, "-small": 600}
_RTX_4090, _LAPTOP, _GTX_1650 = 25_757_220_864, 8_585_740_288, 4_294_967_296
_MACHINE = ProcessMemory(worker_bytes=None, machine_total_bytes=32 * GIB, machine_available_bytes=21 * GIB)


def card_pictures(app: "QApplication", place: Path) -> Iterator[str]:
    """Write a picture of the panel with each card side by side, light and dark, high and low."""
    for theme in (LIGHT, DARK):
        apply_theme(app, theme)
        for suffix, height in _HEIGHTS.items():
            panels = [_panel(samples, height) for samples in recorded_cards().values()]
            app.processEvents()
            path = place / f"cards-{theme.name}{suffix}.png"
            _side_by_side([panel.grab() for panel in panels]).save(str(path))
            yield path.name
            for panel in panels:
                panel.deleteLater()


def recorded_cards() -> dict[str, tuple[GpuSample, ...]]:
    """Return what was measured of each card, the newest last."""
    alone = _card(used=1.2, other=1.2, others=(GpuProcess(24148, "blender", 700 * MIB), _desktop(420)))
    return {
        "alone": (alone,),
        "busy": tuple(_busy(second) for second in range(60)),
        "laptop": (_laptop(),),
        "two": (replace(alone, index=1, cards=_two(alone)),),
        "four": (_four(),),
        "lost": (alone, GpuSample(available=False, is_lost=True, name=alone.name, uuid=alone.uuid)),
        "driver too old": (replace(alone, driver="470.256.02", unusable=_TOO_OLD),),
    }


_TOO_OLD = "Runs cannot use it: its driver knows CUDA 11, and PyTorch needs 13.0. Install NVIDIA's newest driver."


def _panel(samples: tuple[GpuSample, ...], height: int) -> "GpuPanel":
    from qlora_studio.ui.memory.panel import GpuPanel

    panel = GpuPanel()
    panel.resize(_WIDTH, height)
    panel.show()
    model = next(item for item in model_catalogue() if item.shape.parameters > 7e9)
    panel.render_estimate(estimate_setup(model.shape, setup_for(RunConfig(), model.shape)))
    panel.render_wish(ALL_CARDS if samples[-1].together else AUTO_CARD)
    for end in range(1, len(samples) + 1):
        panel.render_samples(samples[:end], (_MACHINE,))
    return panel


def _side_by_side(pictures: "list[QPixmap]") -> "QPixmap":
    from PySide6.QtGui import QColor, QPainter, QPixmap

    whole = QPixmap(len(pictures) * (_WIDTH + _GAP) - _GAP, pictures[0].height())
    whole.fill(QColor("gray"))
    painter = QPainter(whole)
    for number, picture in enumerate(pictures):
        painter.drawPixmap(number * (_WIDTH + _GAP), 0, picture)
    painter.end()
    return whole


def _card(*, used: float, other: float, **more: Any) -> GpuSample:
    facts: dict[str, Any] = {
        "available": True,
        "index": 0,
        "uuid": "GPU-11111111-2222-3333-4444-555555555555",
        "name": "NVIDIA GeForce RTX 4090",
        "driver": "580.95.05",
        "total_bytes": _RTX_4090,
        "used_bytes": int(used * GIB),
        "reserved_bytes": 500 * MIB,
        "free_bytes": _RTX_4090 - int(used * GIB) - 500 * MIB,
        "other_bytes": int(other * GIB),
        "utilisation_percent": 3,
        "temperature_celsius": 41,
        "power_watts": 38.25,
        "power_limit_watts": 450.0,
        "compute_capability": (8, 9),
    }
    return GpuSample(**facts | more)


def _busy(second: int) -> GpuSample:
    others = (GpuProcess(24150, "python3", 16 * GIB), _desktop(1420))
    return _card(
        used=18.0,
        other=18.0,
        others=others,
        utilisation_percent=99 - second % 3,
        temperature_celsius=70 + min(9, second // 5),
        power_watts=447.0 - second % 5,
        throttling=("power limit",),
    )


def _laptop() -> GpuSample:
    """A card that sleeps: no power is told, and no program's memory."""
    return _card(
        used=0.9,
        other=0.9,
        name="NVIDIA GeForce RTX 4060 Laptop GPU",
        driver="572.16",
        total_bytes=_LAPTOP,
        reserved_bytes=200 * MIB,
        others=(GpuProcess(24149, "explorer.exe", None),),
        utilisation_percent=0,
        temperature_celsius=47,
        power_watts=None,
        power_limit_watts=None,
    )


def _two(card: GpuSample) -> tuple[GpuCard, ...]:
    first = GpuCard(0, "GPU-bbbbbbbb-2222-3333-4444-555555555555", "NVIDIA GeForce GTX 1650", _GTX_1650, 3 * GIB)
    return (first, GpuCard(1, card.uuid, card.name, card.total_bytes, card.free_bytes))


def _four() -> GpuSample:
    """Four cards of one kind that train together."""
    cards = tuple(
        _card(
            used=18.2 + index / 4,
            other=0.0 if index else 0.2,
            others=() if index else (_desktop(204),),
            worker_bytes=int((18 + index / 4) * GIB),
            index=index,
            uuid=f"GPU-{index}" + "0" * 30,
            utilisation_percent=96 + index % 3,
            temperature_celsius=66 + 2 * index,
            power_watts=431.0 + index,
        )
        for index in range(4)
    )
    named = tuple(
        GpuCard(index, card.uuid, card.name, card.total_bytes, card.free_bytes) for index, card in enumerate(cards)
    )
    return replace(cards[0], cards=named, together=cards)


def _desktop(mib: int) -> GpuProcess:
    return GpuProcess(24149, "Xorg", mib * MIB)
