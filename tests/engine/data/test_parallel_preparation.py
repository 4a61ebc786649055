"""Two processes that prepare the same rows at the same moment: each finds them whole, made once."""

import subprocess
import sys
from pathlib import Path

import pytest

from qlora_studio.storage.settings import cache_path
from tests.engine.training_run import write_rows

ROUNDS = 6
_PREPARE = """
import sys, time
from pathlib import Path
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.storage.runs.run_folder import RunFolder

me, other, place, rounds = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[5])
limit = time.monotonic() + 120
tokenizer, data = tokenizer_of(Path(sys.argv[4])), {"path": str(place / "rows.jsonl")}
for number in range(rounds):
    mapping = {"data": {**data, "seed": number}, "training": {"packing": True, "max_length": 64}}
    (place / f"{me}{number}").touch()
    while not (place / f"{other}{number}").exists():
        time.sleep(0.001)
        assert time.monotonic() < limit, "the other one is gone"
    found = prepare_datasets(from_mapping(mapping), tokenizer, RunFolder(place / me), QUIET)
    print(number, found.fingerprint["files"]["the training rows"], len(found.training), len(found.packs))
"""


@pytest.mark.slow
def test_two_processes_prepare_the_same_packs_at_once(tiny_llama: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 200)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PREPARE, me, other, str(tmp_path), str(tiny_llama), str(ROUNDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me, other in (("a", "b"), ("b", "a"))
    ]
    try:
        told = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], told[0][1] + told[1][1]
    assert told[0][0] == told[1][0]
    assert len(told[0][0].splitlines()) == ROUNDS
    left = [path.name for path in (cache_path() / "datasets").iterdir() if path.is_dir()]
    assert len(left) == ROUNDS and not any(name.startswith(".") for name in left)
