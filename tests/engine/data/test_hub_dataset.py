"""Datasets of a hub, from a real server on the loopback address, by a real worker: fetched, asked for, refused."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.data.report import DataReport
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import DatasetPrepared, Event, Failed, Finished, Progressed
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DatasetReported, SourcesReported
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_job_folder, create_run_folder
from tests.engine.data.hub_server import Hub, Repository, running_hub
from tests.engine.training_run import SETTINGS, follow, run_to_end

SET = "maker/set"


def lines(count: int, word: str = "Answer") -> bytes:
    row = '{{"messages": [{{"role": "user", "content": "Q{0}?"}}, {{"role": "assistant", "content": "{1} {0}."}}]}}\n'
    return "".join(row.format(number, word) for number in range(count)).encode()


def table(count: int) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [f"Text number {number}." for number in range(count)]}), file)
    return file.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield running


def read(tmp_path: Path, model: Path, *, whole: bool = False, **data: Any) -> list[Event]:
    """Read a dataset until its rows are reported, or until they are tokenized where the `whole` is wanted."""
    config = from_mapping({"model": {"source": str(model)}, "data": {"path": SET, **data}})
    process = start_worker(create_job_folder(tmp_path / "jobs", DataJob(config=config)))
    seen = follow(process, lambda event: not whole and isinstance(event, DatasetReported) and event.report.read)
    process.kill()
    process.wait(10)
    return seen


def report_of(events: list[Event]) -> DataReport:
    found = [event.report for event in events if isinstance(event, DatasetReported)]
    assert found, events[-1]
    return found[-1]


def failure_of(events: list[Event]) -> Failed:
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1]


def test_the_data_files_are_fetched_read_and_recorded_and_then_need_no_network(
    hub: Hub, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"data/train.jsonl": lines(12), "load.py": b"raise SystemExit", "weights.pkl": b"\x80"}
    hub.repositories[SET] = Repository({"main": files})
    report = report_of(read(tmp_path, tiny_llama))
    (source,) = report.sources
    assert (report.rows.total, report.rows.ok, source.name) == (12, 12, SET)
    assert source.commit == hub.repositories[SET].commit("main")
    fetched = {path.rsplit("/", 1)[-1] for path in hub.asked if "/resolve/" in path}
    assert "train.jsonl" in fetched and not fetched & {"load.py", "weights.pkl"}
    assert list((tmp_path / "huggingface" / "hub").glob("datasets--maker--set/snapshots/*/data/train.jsonl"))
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert report_of(read(tmp_path, tiny_llama)).rows.total == 12
    assert hub.asked == []


def test_several_subsets_and_splits_are_told_and_not_chosen(hub: Hub, tiny_llama: Path, tmp_path: Path) -> None:
    readme = b"---\nconfigs:\n- config_name: a\n  data_files: a/*.jsonl\n- config_name: b\n  data_dir: b\n---\n"
    files = {"README.md": readme, "a/x.jsonl": lines(3), "b/train.jsonl": lines(4), "b/test.jsonl": lines(5)}
    hub.repositories[SET] = Repository({"main": files})
    events = read(tmp_path, tiny_llama)
    failed = failure_of(events)
    assert (failed.kind, failed.message) == ("data_choice", "maker/set has several subsets: a, b.")
    (told,) = [event.report for event in events if isinstance(event, SourcesReported)]
    assert told.sources[0].subsets == {"a": ("train",), "b": ("train", "test")}
    assert not [path for path in hub.asked if path.endswith(".jsonl")]
    assert failure_of(read(tmp_path, tiny_llama, subset="b")).message == "maker/set has several splits: train, test."
    assert (
        "no split 'dev'; it has: train, test" in failure_of(read(tmp_path, tiny_llama, subset="b", split="dev")).message
    )
    report = report_of(read(tmp_path, tiny_llama, subset="b", split="train", evaluation_split="test", whole=True))
    assert (report.rows.total, report.sources[0].subset, report.sources[0].split) == (4, "b", "train")
    assert report.evaluation is not None
    assert (report.evaluation.split, report.evaluation.ok, report.evaluation.in_training) == ("test", 5, 4)


def test_a_repository_of_scripts_is_read_from_the_hubs_own_parquet_conversion(
    hub: Hub, tiny_llama: Path, tmp_path: Path
) -> None:
    branches = {
        "main": {"set.py": b"raise SystemExit", "rows.zip": b"PK"},
        "refs/convert/parquet": {"default/train/0000.parquet": table(3), "default/train/0001.parquet": table(4)},
    }
    hub.repositories[SET] = Repository(branches)
    report = report_of(read(tmp_path, tiny_llama))
    assert (report.rows.total, report.format, report.sources[0].files) == (7, "text", 2)
    hub.repositories["maker/none"] = Repository({"main": branches["main"]})
    failed = failure_of(read(tmp_path, tiny_llama, path="maker/none"))
    assert "no data files that can be read" in failed.message and ".py, .zip" in failed.message
    assert "never run" in failed.advice


@pytest.mark.parametrize(
    ("settings", "words", "advice"),
    [
        ({"path": "maker/gated"}, "asks you to accept its terms first", "hf auth login"),
        ({"path": "maker/nowhere"}, "is not on the hub, or is private", "owner/name"),
        ({"path": SET, "revision": "v9"}, "has no revision 'v9'", "newest"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(
    settings: dict[str, Any], words: str, advice: str, hub: Hub, tiny_llama: Path, tmp_path: Path
) -> None:
    hub.repositories[SET] = Repository({"main": {"train.jsonl": lines(2)}})
    hub.repositories["maker/gated"] = Repository({"main": {"train.jsonl": lines(2)}}, gated=True)
    failed = failure_of(read(tmp_path, tiny_llama, **settings))
    assert failed.kind == "data_not_found"
    assert words in failed.message and advice in failed.advice


def test_without_a_connection_a_dataset_that_is_not_in_the_cache_is_refused(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    failed = failure_of(read(tmp_path, tiny_llama))
    assert "could not be fetched, and is not whole in the cache" in failed.message
    assert "connection" in failed.advice


def test_a_download_tells_its_progress_and_can_be_stopped(hub: Hub, tiny_llama: Path, tmp_path: Path) -> None:
    data = lines(400_000)
    hub.repositories[SET] = Repository({"main": {"train.jsonl": data}}, slow=True)
    config = from_mapping({"model": {"source": str(tiny_llama)}, "data": {"path": SET}})
    process = start_worker(create_job_folder(tmp_path / "jobs", DataJob(config=config, stay=True)))
    seen = follow(process, lambda event: isinstance(event, Progressed) and event.what == "download" and event.done > 0)
    assert isinstance(seen[-1], Progressed) and seen[-1].total == len(data)
    process.folder.send(Stop())
    hub.released.set()
    ended = follow(process)
    assert isinstance(ended[-1], Finished) and ended[-1].status == "stopped"


@pytest.mark.slow
def test_a_run_records_the_commit_and_goes_on_with_it_when_the_hub_has_moved_on(
    hub: Hub, tiny_llama: Path, tmp_path: Path
) -> None:
    hub.repositories[SET] = Repository({"main": {"train.jsonl": lines(12)}})
    commit = hub.repositories[SET].commit("main")
    data = {"path": SET, "evaluation_share": 0.0}
    mapping = {"model": {"source": str(tiny_llama)}, "data": data}
    run = create_run_folder(tmp_path / "runs", from_mapping(mapping, [*SETTINGS, "training.max_steps=2"]))
    assert run_to_end(run).phase is Phase.FINISHED
    new = {"train.jsonl": lines(3, "Other")}
    hub.repositories[SET] = Repository({"main": new, commit: {"train.jsonl": lines(12)}})
    assert run_to_end(run).phase is Phase.FINISHED, run.state().failure
    told = [event for event in run.events() if isinstance(event, DatasetPrepared)]
    assert [event.sources[0].commit for event in told] == [commit, commit]
    assert [event.training_rows for event in told] == [12, 12]
