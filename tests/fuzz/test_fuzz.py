"""No file of a stranger makes a reader do more than refuse it in our own words, soon and in little memory.

Each finding is told with the smallest input that was found to do it. `python -m tests.fuzz.campaign --help` says how to
go on from there.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.places import PLACES
from tests.fuzz.readers import readers

_CASES = 100  # of each reader; the long form goes on from there
_MANY = 24_000  # a million over all readers, with the bits
_EVERY_BIT = 10**9
READERS = {reader.name: reader for reader in readers()}
FILES = [reader.name for reader in READERS.values() if reader.is_file]
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every reader does with damaged and hostile files."""
    return _campaign(tmp_path_factory.mktemp("damaged"), "case", _CASES)


@pytest.fixture(scope="module")
def displaced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every reader does where something else stands in the place of its file."""
    return _campaign(tmp_path_factory.mktemp("displaced"), "place", len(PLACES))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_or_hostile_file_is_read_or_refused_in_words(damaged: dict[str, Any], name: str) -> None:
    assert damaged[name]["findings"] == []
    assert damaged[name]["cases"] == _CASES


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(displaced: dict[str, Any], name: str) -> None:
    assert displaced[name]["findings"] == []
    assert displaced[name]["cases"] == len(PLACES)


@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("how", "cases"), [("case", _MANY), ("flip", _EVERY_BIT)])
def test_a_million_damaged_files_are_read_or_refused_in_words(how: str, cases: int, tmp_path: Path) -> None:
    found = _campaign(tmp_path, how, cases)

    assert [words for row in found.values() for words in row["findings"]] == []


def _campaign(folder: Path, how: str, cases: int) -> dict[str, Any]:
    """Run it in a process of its own, for it forks."""
    out = folder / "table.json"
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--how", how, "--cases", str(cases), "--out", str(out)]
    subprocess.run(command, cwd=_ROOT, check=False, capture_output=True)
    table: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return table
