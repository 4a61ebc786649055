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
meter = EnergyMeter(sys.argv[1])
time.sleep(0.2)
told = meter.joules()
time.sleep(0.1)
again = meter.joules()
print(told, again, time.monotonic() - begun, "torch" in sys.modules)
"""
_CARD = "driver 1\ncuda 13000\ncard A\nuuid GPU-1\ntotal 9\nreserved 0\nused 0\n"


def asked(figures: str, tmp_path: Path, model_cache: Path, uuid: str = "GPU-1") -> tuple[float, float, float] | None:
    """Return what is told after 0.2 s and after 0.3 s, and how many seconds it really were; None where nothing is."""
    cards = tmp_path / "cards.txt"
    cards.write_text(_CARD + figures)
    around = {**os.environ, **environment(build(model_cache), tmp_path, cards)}
    around["PYTHONPATH"] = str(Path(__file__).parents[3])  # the library alone: no card of memory is needed
    found = subprocess.run([sys.executable, "-c", _ASK, uuid], env=around, capture_output=True, text=True, check=True)
    told, again, seconds, torch = found.stdout.split()
    assert torch == "False"
    return None if told == again == "None" else (float(told), float(again), float(seconds))


@pytest.mark.parametrize(
    "figures", ["power 200000\nenergy 5000000\n", "power 200000\n"], ids=["counter", "power alone"]
)
def test_energy_grows_by_the_power_from_nothing_on(figures: str, tmp_path: Path, model_cache: Path) -> None:
    told = asked(figures, tmp_path, model_cache)

    assert told is not None
    first, second, seconds = told
    assert 0.2 * 200 * 0.95 < first < second <= seconds * 200
    assert second - first > 0.1 * 200 * 0.95


@pytest.mark.parametrize("uuid", ["GPU-1", "", "GPU-2"], ids=["no figures", "a processor", "a card that is not there"])
def test_where_nothing_is_known_nothing_is_told(uuid: str, tmp_path: Path, model_cache: Path) -> None:
    assert asked("", tmp_path, model_cache, uuid) is None
