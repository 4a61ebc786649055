"""Prints the table of docs/SCALING.md from what the program predicts: `python -m tests.scaling_page`.

It stands between two marks in the page; `--write` puts it there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.step_rate import step_rate
from qlora_studio.core.memory.together import PCIE, joining_seconds, sent_bytes, trained_numbers
from qlora_studio.core.model.shape import shape_from_config
from tests.core.memory.test_estimator import LLAMA_8B

PAGE = Path(__file__).parents[1] / "docs" / "SCALING.md"
_HEAD = "| Cards | A card sends | PCIe, 10 GB/s | 10 Gbit/s | 100 Gbit/s | Step without it | Slower by, PCIe |"
_LINKS = (PCIE, 10e9 / 8, 100e9 / 8)
_BATCHES = {2: 8, 8: 8, 64: 64}  # of a step, by how many cards take it
_CARD, _BATCH, _LENGTH = "RTX 3090 24 GB", 2, 512


def table() -> str:
    """Return the table as it stands in the page."""
    head = f"{_HEAD} 10 Gbit/s | 100 Gbit/s |"
    return "\n".join([head, "|" + "---|" * head.count(" | ") + "---|", *_lines()])


def page(text: str) -> str:
    """Return the page with its table anew."""
    before, _, rest = text.partition(_HEAD)
    return before + table() + "\n" + rest[rest.index("\n\n") + 1 :]


def _lines() -> Iterator[str]:
    shape, card = shape_from_config(LLAMA_8B), find_gpu(_CARD)
    for cards, batches in _BATCHES.items():
        config = RunConfig().with_value("training.batch_size", _BATCH).with_value("training.max_length", _LENGTH)
        config = config.with_value("training.gradient_accumulation", batches)
        numbers, rate = trained_numbers(config, shape), step_rate(config, shape, card)
        assert rate is not None
        step = rate.seconds / cards
        times = [joining_seconds(numbers, cards, link) for link in _LINKS]
        cells = (
            f"{cards}",
            f"{sent_bytes(numbers, cards) / 1e6:.0f} MB",
            *(f"{seconds * 1e3:.0f} ms" for seconds in times),
            f"{step:.1f} s",
            *(f"{seconds / step:.1%}" for seconds in times),
        )
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
    print(table())
