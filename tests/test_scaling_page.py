"""The numbers in docs/SCALING.md are what its own assumptions give."""

import re
from pathlib import Path

import pytest

from tests.scaling_page import PAGE, table

_PAGE = Path(__file__).parents[1] / "docs" / "SCALING.md"
_BYTES = 4 * 41_943_040
_BATCH_SECONDS = 1.08
_RATES = {"PCIe": 10e9, "10 Gbit": 10e9 / 8, "100 Gbit": 100e9 / 8}
_BATCHES = {2: 8, 8: 8, 64: 64}


def test_the_table_follows_from_what_the_page_assumes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", _PAGE.read_text("utf-8"), re.MULTILINE)
    assert [int(cards) for cards, _ in rows] == [*_BATCHES]
    for cards, cells in rows:
        sent, *times_and_shares = (float(re.sub(r"[^0-9.]", "", cell)) for cell in cells.split(" | "))
        count = int(cards)
        size = 2 * (count - 1) / count * _BYTES
        step = _BATCHES[count] / count * _BATCH_SECONDS
        times = [size / rate for rate in _RATES.values()]
        assert sent == pytest.approx(size / 1e6, abs=0.5)
        assert times_and_shares[:3] == pytest.approx([time * 1e3 for time in times], abs=0.5)
        assert times_and_shares[3] == pytest.approx(step, abs=0.05)
        assert times_and_shares[4:] == pytest.approx([time / step * 100 for time in times], abs=0.06)


def test_the_table_is_what_the_program_predicts() -> None:
    """The test above reckons by itself, and knows nothing of the program."""
    assert table() in PAGE.read_text("utf-8"), "run `python -m tests.scaling_page --write`"
