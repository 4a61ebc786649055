"""Long form (`make test-faults`): runs killed at fifty random moments end with the weights of one left alone."""

from pathlib import Path

import pytest

from tests.engine.training.random_kills import RandomKills

_KILLS = 50
_RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "kills.md"


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_fifty_kills_at_random_moments_lose_no_checkpoint_and_no_bit(tiny_llama: Path, tmp_path: Path) -> None:
    killed = RandomKills(tmp_path, tiny_llama, seed=7)
    killed.kill(_KILLS)
    print(f"\n{killed.summary()}\n{killed.table()}")
    _RESULT.parent.mkdir(exist_ok=True)
    _RESULT.write_text(f"# {_KILLS} random kills\n\n{killed.summary()}\n{killed.table()}", encoding="utf-8")
    assert len(killed.kills) >= _KILLS
    assert max(kill.lost for kill in killed.kills) <= 2, "more was lost than the steps since the last safe checkpoint"
