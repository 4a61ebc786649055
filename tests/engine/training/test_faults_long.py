"""Long form (`make test-faults`): runs killed at a hundred random moments end with the weights of one left alone."""

import math
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.engine.training.random_kills import RandomKills

_KILLS = 100
_SECONDS = float(os.environ.get("KILLS_SECONDS", "inf"))  # no other kill begins after them
_RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "kills.md"


@pytest.mark.faults
@pytest.mark.timeout(14_400)
def test_a_hundred_kills_at_random_moments_lose_no_checkpoint_and_no_bit(tiny_llama: Path, tmp_path: Path) -> None:
    killed = RandomKills(tmp_path, tiny_llama, seed=7)
    killed.kill(_KILLS, _SECONDS)
    print(f"\n{killed.summary()}\n{killed.table()}")
    _RESULT.parent.mkdir(exist_ok=True)
    title = f"# {len(killed.kills)} random kills\n\n{_conditions()}\n\n"
    _RESULT.write_text(f"{title}{killed.summary()}\n{killed.table()}", encoding="utf-8")
    assert len(killed.kills) >= _KILLS or math.isfinite(_SECONDS)
    assert max(kill.lost for kill in killed.kills) <= 2, "more was lost than the steps since the last safe checkpoint"


def _conditions() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes"))
    command = "`python -m pytest -m faults tests/engine/training/test_faults_long.py`"
    return f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}: {command}."
