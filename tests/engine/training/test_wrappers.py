"""Language models inside models that also see pictures: trained, merged, verified and asked, by real workers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.reports import TrainingFacts
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.model.adapter import load_tuned
from qlora_studio.engine.model.device import Device
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import WRAPPERS, load, logits, make_base, make_tokenizer
from tests.engine.training_run import final_weights, make_run, of_type, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_SETTINGS = ("training.max_steps=2", "export.merge=true")


def trained(folder: Path, family: str, *settings: str) -> RunFolder:
    base = make_tokenizer(make_base(folder / "base", family))
    (base / "preprocessor_config.json").write_text('{"size": 28}')
    run = make_run(folder / "runs", base, *_SETTINGS, *settings, rows=8)
    run_to_end(run)
    return run


@pytest.mark.parametrize("family", WRAPPERS)
def test_the_text_part_is_trained_and_merged_and_the_whole_is_kept(family: str, tmp_path: Path) -> None:
    run = trained(tmp_path, family)
    ended = of_type(list(run.events()), "finished")
    assert ended, (run.path / "worker.log").read_text() + (run.path / "events.jsonl").read_text()[-3000:]
