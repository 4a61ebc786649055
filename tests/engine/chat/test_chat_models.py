"""A chat with everything that a run has: base, tuned, merged and GGUF answer one prompt, from one worker."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import Ask, EndAnswers, Stop
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, TextGenerated
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.chat.models import find_export
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.gguf.llama_cpp import has_llama_cpp
from qlora_studio.engine.gguf.llama_cpp_process import LlamaCppProcess
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.model.adapter import adapter_folder, checkpoint_name
from qlora_studio.engine.model.generation import prompt_inputs
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


@pytest.mark.usefixtures("without_llama_cpp")
def test_every_variant_answers_and_what_was_exported_answers_as_the_tuned_model(run: RunFolder, tmp_path: Path) -> None:
    export_run(run, formats=["safetensors", "gguf:bf16"], channel=QUIET)
    variants = ["base", "tuned", "merged", "gguf"]
    ask = Ask(request=1, messages=QUESTION, variants=variants, max_new_tokens=24, seed=3, temperature=0.7)
    pieces = answers(run, tmp_path / "jobs", ask)
    texts = texts_of(pieces)
    assert {event.variant: event.way for event in pieces if event.done} == dict.fromkeys(variants, "") | {
        "gguf": "unpacked"
    }
    assert texts["tuned"] == texts["merged"] == texts["gguf"] != texts["base"]


@pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp")
def test_a_gguf_is_answered_by_llama_cpp_where_there_is_one(run: RunFolder, tmp_path: Path) -> None:
    """Word by word what its logits say; also where a conversation is longer than it has room for by itself."""
    export_run(run, formats=["gguf:f16"], channel=QUIET)
    talks = [QUESTION, [{"role": "user", "content": "hello there " * 400}]]
    asks = [Ask(request=at, messages=talk, variants=["gguf"], max_new_tokens=6) for at, talk in enumerate(talks)]
    pieces = answers(run, tmp_path / "jobs", *asks)
    assert {event.way for event in pieces if event.done} == {"llama_cpp"}
    model = LlamaCppProcess(next(run.exports_path.glob("*/*.gguf")))
    tokenizer = load_gguf_tokenizer(next(run.exports_path.glob("*/*.gguf")))
    for at, talk in enumerate(talks):
        ids = prompt_inputs(tokenizer, talk)["input_ids"][0].tolist()
        for _ in range(6):
            ids.append(int(model.logits(ids)[-1].argmax()))
        found = "".join(event.text for event in pieces if event.request == at)
        assert found == tokenizer.decode(ids[-6:])
    model.close()


@pytest.fixture
def without_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find a package without its library, as one made for another system is."""
    (tmp_path / "first" / "xllamacpp").mkdir(parents=True)
    (tmp_path / "first" / "xllamacpp" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "first"), os.environ.get("PYTHONPATH", "")]))


def answers(run: RunFolder, jobs: Path, *asks: Ask) -> list[TextGenerated]:
    """Return what a worker tells of the answers, the last of which is the last ask's last variant's."""
    folder = create_job_folder(jobs, ChatJob(run_dir=str(run.path)))
    process = start_worker(folder)
    for ask in asks:
        folder.send(ask)
    last = asks[-1].request, asks[-1].variants[-1]
    events = follow(
        process,
        lambda event: isinstance(event, TextGenerated) and event.done and (event.request, event.variant) == last,
    )
    folder.send(Stop())
    follow(process)
    assert folder.state().failure is None
    return [event for event in events if isinstance(event, TextGenerated)]


def texts_of(pieces: list[TextGenerated]) -> dict[str, str]:
    """Return the text of each variant. This model is random: it also chooses rows without a token."""
    names = {event.variant for event in pieces}
    texts = {name: "".join(event.text for event in pieces if event.variant == name) for name in names}
    return {name: re.sub(r"\[PAD\d+\]", "", text) for name, text in texts.items()}


def test_an_answer_ends_when_that_is_asked_and_the_next_is_given(run: RunFolder, tmp_path: Path) -> None:
    folder = create_job_folder(tmp_path / "jobs", ChatJob(run_dir=str(run.path)))
    process = start_worker(folder)
    for request in (1, 2):
        folder.send(Ask(request=request, messages=QUESTION, variants=["base", "tuned"], max_new_tokens=4000))
    told = follow(process, lambda event: isinstance(event, TextGenerated))
    folder.send(EndAnswers())
    folder.send(Ask(request=3, messages=QUESTION, max_new_tokens=2))
    told += follow(process, lambda event: isinstance(event, TextGenerated) and event.done and event.request == 3)
    folder.send(Stop())
    follow(process)
    ends = [(event.request, event.variant) for event in told if isinstance(event, TextGenerated) and event.done]
    assert set(ends) == {(1, "base"), (3, "tuned")}


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
