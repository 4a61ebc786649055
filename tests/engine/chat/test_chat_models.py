"""A chat with everything that a run has: base, tuned, merged and GGUF answer one prompt, from one worker."""

import json
import re
import shutil
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import Ask, Stop
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, TextGenerated
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.chat.models import find_export
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.adapter import adapter_folder, checkpoint_name
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.durable import write_manifest
from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from tests.engine.finished_run import make_run
from tests.engine.training_run import follow

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUESTION = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "made", method="none", lora_alpha=96)


def test_every_variant_answers_and_what_was_exported_answers_as_the_tuned_model(run: RunFolder, tmp_path: Path) -> None:
    export_run(run, formats=["safetensors", "gguf:bf16"], channel=QUIET)
    folder = create_job_folder(tmp_path / "jobs", ChatJob(run_dir=str(run.path)))
    process = start_worker(folder)
    variants = ["base", "tuned", "merged", "gguf"]
    folder.send(Ask(request=1, messages=QUESTION, variants=variants, max_new_tokens=24, seed=3, temperature=0.7))
    events = follow(process, lambda event: isinstance(event, TextGenerated) and event.done and event.variant == "gguf")
    folder.send(Stop())
    follow(process)
    pieces = [event for event in events if isinstance(event, TextGenerated)]
    assert folder.state().failure is None
    assert [event.variant for event in pieces if event.done] == variants
    texts = {name: "".join(event.text for event in pieces if event.variant == name) for name in variants}
    texts["gguf"] = re.sub(r"\[PAD\d+\]", "", texts["gguf"])  # rows without a token: this model is random
    assert texts["tuned"] == texts["merged"] == texts["gguf"] != texts["base"]


def test_what_was_not_exported_is_said_in_words(run: RunFolder) -> None:
    with pytest.raises(StudioError, match="no merged model of its final adapter") as caught:
        find_export(run, "best", "merged")
    assert "qlora-studio export" in caught.value.advice


@pytest.mark.parametrize(("loss", "chosen"), [(1.0, "4"), (3.0, "final")])
def test_the_best_checkpoint_is_exported_unless_told_otherwise_and_named(
    run: RunFolder, loss: float, chosen: str
) -> None:
    checkpoint = run.checkpoints_path / "checkpoint-4"
    shutil.copytree(run.adapter_path, checkpoint)
    write_manifest(checkpoint, CheckpointManifest(step=4, evaluation_loss=loss))
    with MessageLogWriter(run.events_path) as log:
        log.append(CheckpointSaved(step=4, name="checkpoint-4", size_bytes=1, seconds=0.1, evaluation_loss=loss))
        log.append(Evaluated(step=0, loss=2.0, perplexity=7.4))
    assert checkpoint_name(adapter_folder(run, "best")) == chosen
    (event,) = export_run(run, formats=["adapter"], channel=QUIET)
    assert json.loads((Path(event.path) / "manifest.json").read_text())["checkpoint"] == chosen
    assert ("4 (an earlier checkpoint)" in (Path(event.path) / "README.md").read_text()) == (chosen == "4")
