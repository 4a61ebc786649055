"""The check for known faults is green only where a list was reached for every package."""

import subprocess
import sys
from pathlib import Path

import pytest

_JUDGE = Path(__file__).resolve().parents[2] / "packaging" / "known_faults.py"


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "0 known faults in 1 packages"),
        ('{"dependencies": [{"name": "a", "vulns": [{"id": "CVE-1"}]}]}', 1, "a: CVE-1"),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found on PyPI"}]}', 2, "NOT CHECKED"),
        ('{"dependencies": [{"name": "a", "vulns": []}, {"name": "b", "skip_reason": "x"}]}', 2, "1 of 2"),
        ('{"dependencies": []}', 2, "NOT CHECKED"),
        ("", 2, "NOT CHECKED"),
    ],
    ids=["nothing known", "a fault", "no list", "a list of some", "nothing asked", "no answer"],
)
def test_no_tick_is_green_without_a_list(found: str, code: int, words: str) -> None:
    done = subprocess.run([sys.executable, str(_JUDGE)], input=found, capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert words in done.stdout
