"""What the disk check says a run and its exports need is what they then use at the peak, within a tenth."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.export.disk_need import run_needs
from qlora_studio.core.export.formats import all_formats, parse_format
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run.activity import Phase
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.data.prepared import prepare_datasets, store_path
from qlora_studio.engine.export.export import export_run, export_size
from qlora_studio.engine.export.source import export_source
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import make_run, run_to_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_TENTH = 0.1
_LOSS_RISES = ("training.learning_rate=0.03", "training.max_steps=5", "training.warmup_ratio=0")
_SAVES = ("checkpoint.every_steps=1", "checkpoint.keep=2", "evaluation.every_steps=1", "export.merge=false")
_FORMATS = [shape.text for shape in all_formats() if shape.kind not in ("text_model", "ollama")] + ["ollama:q8_0"]


@pytest.fixture(scope="module")
def run(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, int]]:
    """A run of the real small model whose best checkpoint is its first, and the most bytes that it used."""
    place = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QLORA_STUDIO_HOME", str(place / "home"))
        folder = make_run(place / "runs", smollm_folder, *_LOSS_RISES, *_SAVES, rows=12)
        with _peak_of(folder.path) as peak:
            state = run_to_end(folder)
        assert state.phase is Phase.FINISHED, state.failure
        yield folder, peak[0]


def test_a_run_uses_what_was_said(run: tuple[RunFolder, int], smollm_folder: Path) -> None:
    folder, used = run
    needs = run_needs(folder.config(), shape_from_config(read_config(smollm_folder)), on_card=False)
    kept = sorted(path.name for path in folder.checkpoints_path.iterdir())
    assert len(kept) == 3, "the best checkpoint is among the newest, so it takes no room of its own"
    assert sum(need.size for need in needs) == pytest.approx(used, rel=_TENTH)


@pytest.mark.parametrize("text", _FORMATS)
def test_an_export_uses_what_was_said(text: str, run: tuple[RunFolder, int], tmp_path: Path) -> None:
    source = export_source(run[0], "final", "original", QUIET, force=False)
    place = tmp_path / "exports"
    with _peak_of(place) as peak:
        export_run(run[0], formats=[text], checkpoint="final", out_dir=str(place / "model"), channel=QUIET)
    assert export_size(source, parse_format(text)) == pytest.approx(peak[0], rel=_TENTH)


@pytest.mark.parametrize("text", [text for text in _FORMATS if text.startswith("gguf:q")])
def test_a_run_knows_before_it_begins_what_its_exports_will_use(text: str, run: tuple[RunFolder, int]) -> None:
    """By the model's shape alone, without its tensors."""
    config = run[0].config().with_value("export.formats", [text]).with_value("export.merge", True)
    source = export_source(run[0], "final", "original", QUIET, force=False)
    needs = run_needs(config, shape_from_config(read_config(source.base)))
    told = next(need.size for need in needs if need.what.startswith("GGUF"))
    assert told == pytest.approx(export_size(source, parse_format(text)), rel=_TENTH)


@pytest.mark.parametrize("packing", [False, True])
def test_prepared_rows_use_what_was_said(
    packing: bool, smollm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "home"))
    rows = [[{"role": "user", "content": str(n)}, {"role": "assistant", "content": f"{n} " * 90}] for n in range(6000)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    config = from_mapping({"data": {"path": str(data)}, "training": {"max_length": 1024, "packing": packing}})
    with _peak_of(store_path()) as peak:
        found = prepare_datasets(config, tokenizer_of(smollm_folder), RunFolder(tmp_path / "run"), QUIET)
    tokens = sum(map(len, found.training["input_ids"]))
    needs = run_needs(config, shape_from_config(read_config(smollm_folder)), tokens=tokens)
    assert next(need.size for need in needs if need.what == "prepared data") == pytest.approx(peak[0], rel=_TENTH)


@contextmanager
def _peak_of(folder: Path) -> Iterator[list[int]]:
    """Yield a list that has the most bytes that a folder took on the disk once the block has ended."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], _used(folder))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield peak
    finally:
        over.set()
        looker.join()
        peak[0] = max(peak[0], _used(folder))


def _used(folder: Path) -> int:
    blocks = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(parent, name)).st_blocks  # noqa: PTH118  no Path: as fast as can be
            except FileNotFoundError:
                continue
    return 512 * blocks
