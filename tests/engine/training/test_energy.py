"""What a card took is asked of NVIDIA's library: its counter, or its power; where it tells neither, no."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rehearsal.build import build, missing_compilers
from tests.rehearsal.machine import environment

pytestmark = pytest.mark.skipif(bool(missing_compilers()), reason="no library of NVIDIA's can be built here")
_ASK = """
import sys, time
from qlora_studio.engine.training.energy import EnergyMeter
begun = time.monotonic()
meter = EnergyMeter(*sys.argv[1:])
time.sleep(0.2)
told = meter.joules()
time.sleep(0.1)
again = meter.joules()
print(told, again, time.monotonic() - begun, "torch" in sys.modules)
"""
_FIGURES = {"counter": "power 200000\nenergy 5000000\n", "power": "power 200000\n", "silent": ""}
_CARDS = "driver 1\ncuda 13000\n" + "".join(
    f"card {name}\nuuid {name}\ntotal 9\nreserved 0\nused 0\n{figures}" for name, figures in _FIGURES.items()
)


def asked(tmp_path: Path, model_cache: Path, *cards: str) -> tuple[float, float, float] | None:
    """Return what is told after 0.2 s and after 0.3 s, and how many seconds it really were; None where nothing is."""
    (tmp_path / "cards.txt").write_text(_CARDS)
    around = {**os.environ, **environment(build(model_cache), tmp_path, tmp_path / "cards.txt")}
    around["PYTHONPATH"] = str(Path(__file__).parents[3])  # the library alone: no card of memory is needed
    command = [sys.executable, "-c", _ASK, *cards]
    found = subprocess.run(command, env=around, capture_output=True, text=True, check=True)
    told, again, seconds, torch = found.stdout.split()
    assert torch == "False"
    return None if told == again == "None" else (float(told), float(again), float(seconds))


@pytest.mark.parametrize("cards", [("counter",), ("power",), ("counter", "power")])
def test_energy_grows_by_the_power_from_nothing_on(cards: tuple[str, ...], tmp_path: Path, model_cache: Path) -> None:
    told = asked(tmp_path, model_cache, *cards)

    assert told is not None
    watts, (first, second, seconds) = 200 * len(cards), told
    assert 0.2 * watts * 0.95 < first < second <= seconds * watts
    assert second - first > 0.1 * watts * 0.95


@pytest.mark.parametrize("cards", [("silent",), ("of another machine",), ("counter", "silent"), ()])
def test_where_one_does_not_tell_nothing_is_told(cards: tuple[str, ...], tmp_path: Path, model_cache: Path) -> None:
    assert asked(tmp_path, model_cache, *cards) is None
