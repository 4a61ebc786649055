"""Uploads to a hub on this computer, through real workers: whole, private, proved, and without the token anywhere."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.job import UploadJob, VerifyJob
from qlora_studio.core.run.reports import UploadReported
from qlora_studio.core.run.run_state import RunState
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.verification import job as verify_job
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from tests.engine.export.loopback_hub import Hub, loopback_hub
from tests.engine.finished_run import make_run
from tests.engine.training_run import follow
from tests.manifests import relist

TOKEN = "hf_thisIsNoRealToken0123456789"
REPOSITORY = "captain/log-bot"
Upload = Callable[..., RunState]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub(TOKEN) as hub:
        yield hub


@pytest.fixture(autouse=True)
def stored_token(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own store, with a token in it, and the loopback hub for the hub."""
    store = tmp_path / "hub-store"
    store.mkdir()
    (store / "token").write_text(TOKEN)
    monkeypatch.setenv("HF_HOME", str(store))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return store / "token"


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real adapter export with a real verification beside it; tests copy what they change."""
    run = make_run(tmp_path_factory.mktemp("run"))
    (event,) = export_run(run, formats=["adapter"], channel=QUIET)
    context = JobContext(RunFolder(tmp_path_factory.mktemp("job")))
    verify_job.run(VerifyJob(path=event.path, run_dir=str(run.path)), context)
    return Path(event.path)


@pytest.fixture
def export(verified: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(verified, tmp_path / "adapter"))


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    """Upload in a worker of its own and return its last state."""

    def call(folder: Path, **more: object) -> RunState:
        job = UploadJob.model_validate({"path": str(folder), "repository": REPOSITORY, **more})
        job_folder = create_job_folder(tmp_path / "jobs", job)
        follow(start_worker(job_folder))
        return job_folder.state()

    return call


def test_a_verified_export_arrives_whole_and_private(export: Path, hub: Hub, upload: Upload) -> None:
    (export / "notes.txt").write_text("not of the export")
    state = upload(export)
    assert state.phase is Phase.FINISHED, state.failure
    assert hub.visibility == {REPOSITORY: "private"}
    arrived = hub.files[REPOSITORY]
    assert {name: (export / name).read_bytes() for name in arrived} == arrived
    manifest = json.loads((export / "manifest.json").read_text())
    assert set(arrived) == {*manifest["files"], "manifest.json", "verification.json", "verification.md"}
    (done,) = [item.report for item in state.reports if isinstance(item, UploadReported)]
    assert (done.url, done.private) == (f"{hub.address}/{REPOSITORY}", True)


def test_the_token_is_in_no_file_but_the_hubs_own(
    export: Path, hub: Hub, upload: Upload, tmp_path: Path, stored_token: Path
) -> None:
    assert upload(export).phase is Phase.FINISHED
    stored_token.write_text("hf_anotherOneThatTheHubDoesNotKnow")
    assert upload(export).phase is Phase.FAILED
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != stored_token]
    assert any(path.name == "events.jsonl" for path in files)
    for path in files:
        assert b"hf_thisIs" not in path.read_bytes(), path
        assert b"hf_another" not in path.read_bytes(), path


def test_what_is_not_verified_is_not_uploaded_unless_forced(export: Path, hub: Hub, upload: Upload) -> None:
    report = json.loads((export / "verification.json").read_text())
    (export / "verification.json").write_text(json.dumps({**report, "verified": False}))
    state = upload(export)
    assert state.failure is not None
    assert state.failure.kind == "not_verified"
    assert hub.requests == []
    assert upload(export, force=True).phase is Phase.FINISHED


def test_an_export_that_tells_of_this_computer_is_not_uploaded(export: Path, hub: Hub, upload: Upload) -> None:
    card = export / "README.md"
    card.write_text(card.read_text() + "\nMade in /home/alice/models.\n")
    relist(export, without="README.md")
    assert upload(export).phase is Phase.FINISHED  # a file that is not of the export is not sent
    assert "README.md" not in hub.files[REPOSITORY]
    config = export / "training" / "run.toml"
    config.write_text(config.read_text() + "# D:\\alice\\rows\n")
    relist(export)
    state = upload(export)
    assert state.failure is not None
    assert "training/run.toml, line" in state.failure.message


def test_a_damaged_export_is_not_uploaded_even_if_forced(export: Path, hub: Hub, upload: Upload) -> None:
    (export / "adapter_model.safetensors").write_bytes(b"other")
    state = upload(export, force=True)
    assert state.failure is not None
    assert state.failure.kind == "damaged"
    assert hub.requests == []


def test_a_repository_that_everybody_sees_is_not_taken_for_a_private_one(
    export: Path, hub: Hub, upload: Upload
) -> None:
    hub.visibility[REPOSITORY] = "public"
    state = upload(export)
    assert state.failure is not None
    assert "Everybody can see" in state.failure.message
    assert hub.files == {}
    assert upload(export, private=False).phase is Phase.FINISHED


@pytest.mark.parametrize(("token", "words"), [("hf_wrong", "does not know"), (None, "not logged in")])
def test_without_a_token_that_is_known_it_is_said_what_to_do(
    export: Path, hub: Hub, upload: Upload, stored_token: Path, token: str | None, words: str
) -> None:
    stored_token.unlink() if token is None else stored_token.write_text(token)
    state = upload(export)
    assert state.failure is not None
    assert words in state.failure.message
    assert "hf auth login" in state.failure.advice
    assert hub.files == {}


def test_a_hub_that_is_not_reached_is_said_in_words(
    export: Path, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    state = upload(export)
    assert state.failure is not None
    assert "could not be reached" in state.failure.message


def test_a_stopped_upload_leaves_the_repository_as_it_was(export: Path, hub: Hub, tmp_path: Path) -> None:
    hub.may_go_on.clear()
    folder = create_job_folder(tmp_path / "jobs", UploadJob(path=str(export), repository=REPOSITORY))
    process = start_worker(folder)
    assert hub.uploading.wait(60)
    folder.send(Stop(save=False))
    hub.may_go_on.set()
    follow(process)
    assert folder.state().phase is Phase.STOPPED
    assert hub.files == {}
