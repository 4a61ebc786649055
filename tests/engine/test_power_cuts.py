"""Merges, exports and prepared rows after a power cut: whole where they bear their name, or not there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.storage.durable import sha256_of
from qlora_studio.storage.runs.export_folder import damages
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import make_adapter, make_base
from tests.engine.finished_run import make_run
from tests.storage.power_cut import PowerCuts, Tell

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_SHAPES = ["safetensors", "adapter", "gguf:q8_0", "ollama:f16", "gguf_adapter"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with nothing on it; what is read lies elsewhere."""
    home = tmp_path / "disk"
    home.mkdir()
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(home))
    return home


def _cut_exports(home: Path, write: Callable[[Path], object], cuts: int | None, ways: int) -> int:
    out = home / "exports" / "model"

    def write_and_tell(tell: Tell) -> None:
        write(out)
        tell("exported")

    disks = PowerCuts(home, write_and_tell)
    whole = _hashes(out)
    seen = set()
    for told in disks.after(cuts, seed=14, ways=ways):
        assert out.is_dir() or not told, "what was told is not there"
        if out.is_dir():
            assert damages(out) == []
            assert _hashes(out) == whole
        seen.add(out.is_dir())
    assert seen == {True, False}
    return len(disks.disks)


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def _merge(place: Path) -> Callable[[Path], object]:
    base = make_base(place / "base", "llama", shard="100KB")
    adapter = make_adapter(place / "adapter", base)
    return lambda out: merge_adapter(base, adapter, out)


def _export(place: Path, shape: str) -> Callable[[Path], object]:
    run = make_run(place / "made")
    return lambda out: export_run(run, formats=[shape], out_dir=str(out), channel=QUIET)


def test_a_merge_is_whole_or_not_there_after_a_power_cut(home: Path, tmp_path: Path) -> None:
    assert _cut_exports(home, _merge(tmp_path), cuts=12, ways=3) > 50


@pytest.mark.parametrize("shape", ["ollama:f16"])
def test_an_export_is_whole_or_not_there_after_a_power_cut(shape: str, home: Path, tmp_path: Path) -> None:
    assert _cut_exports(home, _export(tmp_path, shape), cuts=12, ways=3) > 20


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", ["merge", *_SHAPES])
def test_an_export_is_whole_or_not_there_after_a_power_cut_at_any_call(shape: str, home: Path, tmp_path: Path) -> None:
    write = _merge(tmp_path) if shape == "merge" else _export(tmp_path, shape)
    assert _cut_exports(home, write, cuts=None, ways=4) > 20


def _cut_prepared_rows(home: Path, tmp_path: Path, model: Path, cuts: int | None, ways: int) -> None:
    data = tmp_path / "rows.jsonl"
    turns = [[("user", f"What is {n}?"), ("assistant", f"A number, and {n} at that.")] for n in range(40)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in turns]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = from_mapping({"data": {"path": str(data)}, "training": {"max_length": 64, "packing": True}})
    run, tokenizer = RunFolder(tmp_path / "run"), tokenizer_of(model)

    def rows_now() -> tuple[list[Any], dict[str, Any]]:
        prepared = prepare_datasets(config, tokenizer, run, QUIET)
        return [*prepared.training, *(prepared.evaluation or ())], prepared.fingerprint

    def prepare(tell: Tell) -> None:
        rows_now()
        tell("prepared")

    disks = PowerCuts(home, prepare)
    whole, files = rows_now(), _hashes(home / "cache" / "datasets")
    for told in disks.after(cuts, seed=14, ways=ways):
        if told:
            assert _hashes(home / "cache" / "datasets") == files, "what was told as prepared is not there"
        assert rows_now() == whole


def test_rows_that_were_prepared_are_found_whole_after_a_power_cut(
    home: Path, tmp_path: Path, tiny_llama: Path
) -> None:
    _cut_prepared_rows(home, tmp_path, tiny_llama, cuts=1, ways=6)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_rows_are_prepared_again_or_found_whole_after_a_power_cut_at_any_call(
    home: Path, tmp_path: Path, tiny_llama: Path
) -> None:
    _cut_prepared_rows(home, tmp_path, tiny_llama, cuts=60, ways=6)
