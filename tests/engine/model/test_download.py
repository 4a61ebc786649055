"""A model comes from the hub without its code and pickles, and one that needs code of its own is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.run.events import Failed, Finished, TerminalEvent
from qlora_studio.core.run.job import DownloadJob
from qlora_studio.core.run.reports import DownloadFacts
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_job_folder
from tests.engine.data.hub_server import Hub, Repository, running_hub
from tests.engine.training_run import follow

MODEL = "maker/model"
WEIGHTS = {"model.safetensors": b"weights", "tokenizer.json": b"{}"}
FOREIGN = {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\x80"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield running


def _downloaded(tmp_path: Path, hub: Hub, config: dict[str, object]) -> TerminalEvent:
    hub.repositories[MODEL] = Repository({"main": {"config.json": json.dumps(config).encode(), **WEIGHTS, **FOREIGN}})
    process = start_worker(create_job_folder(tmp_path / "jobs", DownloadJob(source=MODEL)))
    last = follow(process, lambda _event: False)[-1]
    process.wait(10)
    assert isinstance(last, Finished | Failed)
    return last


def test_weights_config_and_tokenizer_are_fetched_and_neither_code_nor_pickles(tmp_path: Path, hub: Hub) -> None:
    ended = _downloaded(tmp_path, hub, {"model_type": "llama"})
    assert isinstance(ended, Finished) and isinstance(ended.facts, DownloadFacts), ended
    assert {path.name for path in Path(ended.facts.path).iterdir()} == {"config.json", *WEIGHTS}
    assert not [path for path in hub.asked if path.endswith(tuple(FOREIGN))]


def test_a_model_that_needs_code_of_its_own_is_refused_where_it_is_fetched(tmp_path: Path, hub: Hub) -> None:
    ended = _downloaded(tmp_path, hub, {"model_type": "own", "auto_map": {"AutoModel": "modeling.Own"}})
    assert isinstance(ended, Failed), ended
    assert ended.kind == "model_refused"
    assert "Python code of its own" in ended.message


def test_where_the_network_is_switched_off_the_hub_is_not_asked(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")

    ended = _downloaded(tmp_path, hub, {"model_type": "llama"})

    assert isinstance(ended, Failed), ended
    assert ended.kind == "offline"
    assert f"The model {MODEL} is not whole here" in ended.message
    assert hub.asked == []
