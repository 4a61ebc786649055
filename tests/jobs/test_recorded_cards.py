"""What the panel and the queue know of cards, asked through pynvml of a real library: recorded cards answer in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.build import build, missing_compilers

pytestmark = pytest.mark.skipif(
    bool(missing_compilers()), reason=f"no library can be built without {', '.join(missing_compilers())}"
)
_RECORDS = Path(__file__).parents[1] / "rehearsal" / "cards"
_SAMPLE = """
import json, sys
from dataclasses import asdict
from qlora_studio.jobs.gpu_monitor import sample_gpu
print(json.dumps(asdict(sample_gpu())))
"""
_LOSE = """
import json, queue, shutil, sys
from dataclasses import asdict
from qlora_studio.jobs.gpu_monitor import GpuMonitor
samples = queue.Queue()
monitor = GpuMonitor(samples.put, interval=0.05)
monitor.start()
first = samples.get(timeout=30)
shutil.copyfile(sys.argv[1], sys.argv[2])
lost = first
while lost.available:
    lost = samples.get(timeout=30)
monitor.stop()
print(json.dumps([asdict(first), asdict(lost)]))
"""


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("rtx4090", {"name": "NVIDIA GeForce RTX 4090", "power_watts": 38.25, "power_limit_watts": 450.0}),
        ("busy", {"utilisation_percent": 99, "temperature_celsius": 79, "throttling": ["power limit"]}),
        ("laptop", {"driver": "572.16", "power_watts": None, "power_limit_watts": None, "utilisation_percent": 0}),
        ("two", {"name": "NVIDIA GeForce RTX 4090", "index": 1}),
        ("lost", {"available": False, "is_lost": False}),
    ],
)
def test_a_recorded_card_is_told_as_it_was_recorded(record: str, expected: dict[str, Any], model_cache: Path) -> None:
    sample = ask(_SAMPLE, _RECORDS / f"{record}.txt", model_cache)
    assert {key: sample[key] for key in expected} == expected
    if sample["available"]:
        assert sample["total_bytes"] == sample["used_bytes"] + sample["reserved_bytes"] + sample["free_bytes"]


def test_a_program_whose_memory_the_driver_does_not_tell_is_listed_all_the_same(model_cache: Path) -> None:
    """As Windows has it."""
    (other,) = ask(_SAMPLE, _RECORDS / "laptop.txt", model_cache)["others"]
    assert other["used_bytes"] is None


@pytest.mark.parametrize(("record", "words"), [("old_driver", "its driver knows CUDA 11"), ("rtx4090", "")])
def test_a_driver_that_is_too_old_for_the_installed_pytorch_is_told(
    record: str, words: str, tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build for CUDA 13 is played by the one file of it that is read."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    told = ask(_SAMPLE, _RECORDS / f"{record}.txt", model_cache)["unusable"]
    assert words in told
    assert bool(told) is bool(words)


def test_a_card_that_is_lost_while_it_is_watched_keeps_its_name(tmp_path: Path, model_cache: Path) -> None:
    cards = tmp_path / "cards.txt"
    cards.write_bytes((_RECORDS / "rtx4090.txt").read_bytes())
    first, lost = ask(_LOSE, cards, model_cache, str(_RECORDS / "lost.txt"), str(cards))
    assert first["available"]
    assert (lost["available"], lost["is_lost"], lost["name"]) == (False, True, first["name"])


def ask(program: str, cards: Path, model_cache: Path, *arguments: str) -> Any:
    """Return what a program prints on a machine with these cards: the library is looked for when it starts."""
    machine = {"LD_LIBRARY_PATH": str(build(model_cache)), "REHEARSAL_CARDS": str(cards)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **machine},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_each_card_that_trains_with_others_is_measured(model_cache: Path) -> None:
    """Those that a run named by its UUIDs go before those that are wished for now."""
    program = _SAMPLE.replace("sample_gpu()", "sample_gpu(sys.argv[1])")
    together = ask(program, _RECORDS / "two.txt", model_cache, "all")
    assert [card["name"] for card in together["together"]] == ["NVIDIA GeForce GTX 1650", "NVIDIA GeForce RTX 4090"]
    assert [card["power_watts"] for card in together["together"]] == [30.0, 38.25]
    assert (together["index"], ask(program, _RECORDS / "two.txt", model_cache, "1")["together"]) == (0, [])
