"""A stranger's run folder with links and pipes in the place of its files: nothing is written through them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio import child_process
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.job import ChatJob, TrainJob
from qlora_studio.jobs.job_folders import new_job_folder
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.runs import inherited_lock
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.export_folder import staged_export
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.own_files import require_own_files
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.staging import remove_abandoned

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links are a matter of rights on Windows")
_FILES = ("events.jsonl", "commands.jsonl", "worker.log", "run.lock", "run.toml", "job.json", ".reserve")
_FOLDERS = ("checkpoints", "adapter", "exports", "jobs")
_WITHIN = ("checkpoints/checkpoint-4", "adapter/adapter_model.safetensors", "exports/merged", "jobs/chat")
_PRECIOUS = b"what the user has, and wants to keep"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the user's, with a file."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "precious").write_bytes(_PRECIOUS)
    return folder


@pytest.fixture
def run(tmp_path: Path, elsewhere: Path) -> RunFolder:
    return create_run_folder(tmp_path / "runs", RunConfig())


def as_a_link(path: Path, target: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def is_untouched(elsewhere: Path) -> bool:
    return list(elsewhere.iterdir()) == [elsewhere / "precious"] and (elsewhere / "precious").read_bytes() == _PRECIOUS


@pytest.mark.parametrize("name", [*_FILES, *_FOLDERS, *_WITHIN])
def test_no_worker_is_started_where_something_is_a_link(run: RunFolder, elsewhere: Path, name: str) -> None:
    as_a_link(run.path / name, elsewhere if name in (*_FOLDERS, *_WITHIN) else elsewhere / "precious")

    with pytest.raises(StudioError) as raised:
        start_worker(run, (sys.executable, "-c", "pass"))
    is_an_order = name in ("run.toml", "job.json")  # asked about before
    assert f"{Path(name).name} is a link, which may lead out of the folder" in raised.value.message or is_an_order
    assert is_untouched(elsewhere)


@pytest.mark.parametrize("name", ["events.jsonl", "run.lock", "jobs"])
def test_a_worker_that_is_started_otherwise_does_nothing_there(run: RunFolder, elsewhere: Path, name: str) -> None:
    as_a_link(run.path / name, elsewhere / "precious")

    code, _, said = child_process.ask(child_process.python("-m", "qlora_studio", "worker", str(run.path)), 120)

    assert code
    assert "is a link" in said and "Traceback" not in said
    assert is_untouched(elsewhere)


@pytest.mark.parametrize("name", [*_FOLDERS, *_WITHIN])
def test_no_job_of_a_run_is_made_where_something_is_a_link(run: RunFolder, elsewhere: Path, name: str) -> None:
    as_a_link(run.path / name, elsewhere)

    with pytest.raises(StudioError, match="is a link"):
        new_job_folder(ChatJob(run_dir=str(run.path)), run)
    assert is_untouched(elsewhere)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run: RunFolder) -> None:
    os.mkfifo(run.events_path)

    with pytest.raises(StudioError, match=r"events\.jsonl is no regular file"):
        start_worker(run)


@pytest.mark.parametrize("target", ["precious", "nothing there"])
@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.send(Pause()),
        lambda run: MessageLogWriter(run.events_path).close(),
        lambda run: run.write_config(RunConfig()),
        lambda run: run.write_job(TrainJob()),
        lambda run: run.is_busy(),
        lambda run: inherited_lock.take(run.lock_path),
    ],
    ids=["commands", "events", "config", "job", "looking whether it is busy", "lock"],
)
def test_nothing_is_written_through_a_link_by_anybody(
    run: RunFolder, elsewhere: Path, write: Callable[[RunFolder], object], target: str
) -> None:
    for name in _FILES:
        as_a_link(run.path / name, elsewhere / target)
    try:
        write(run)
    except StudioError as error:
        assert "is a link" in error.message
    assert is_untouched(elsewhere)


def test_removing_and_replacing_leaves_what_links_lead_to(run: RunFolder, elsewhere: Path) -> None:
    checkpoints = run.checkpoints_path
    as_a_link(checkpoints / ".staging-1-checkpoint-9", elsewhere)
    as_a_link(checkpoints / ".staging-999999999-checkpoint-9", elsewhere)
    as_a_link(checkpoints / "checkpoint-8", elsewhere)
    as_a_link(run.adapter_path, elsewhere)

    remove_abandoned(checkpoints)
    CheckpointFolder(checkpoints).rotate(1)
    with staged_folder(run.adapter_path, replace=True) as staged:
        (staged.path / "new").touch()
        (staged.path / "link").symlink_to(elsewhere / "precious")
    as_a_link(run.exports_path / "merged", elsewhere)
    with pytest.raises(StudioError), staged_export(run.exports_path / "merged"):
        pass

    assert is_untouched(elsewhere)


def test_the_users_own_link_to_a_run_is_followed(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "my run").symlink_to(run.path)
    linked = RunFolder(tmp_path / "my run")

    require_own_files(linked.path)
    linked.send(Pause())

    assert linked.state().phase is Phase.NEW
    assert run.commands_path.is_file()
