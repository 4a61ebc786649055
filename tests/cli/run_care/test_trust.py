"""A run that another user made, or that was changed, is looked at by every command and obeyed by none until trusted."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import UploadJob
from qlora_studio.jobs.queue_runner import QueueRunner
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.runs.trust import objection
from qlora_studio.ui.showcase.sample_run import write_sample_run
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]
_ORDERS = (
    ("resume",),
    ("queue",),
    ("chat", "--prompt", "Hello"),
    ("export", "--to", "adapter"),
    ("merge",),
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose records are not shared with other tests."""
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "user"))


@pytest.fixture
def theirs(tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that somebody else made, after this user's first start."""
    assert studio("runs").code == ExitCode.OK
    with monkeypatch.context() as another:
        another.setenv("QLORA_STUDIO_HOME", str(tmp_path / "another user"))
        folder = create_run_folder(tmp_path / "received", RunConfig(name="theirs"))
        write_sample_run(folder.path, steps=20)
    return folder


def _files(folder: RunFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != "run.lock"}


@pytest.mark.parametrize("command", _ORDERS, ids=lambda command: command[0])
def test_no_command_obeys_it_and_nothing_of_it_is_touched(
    studio: Studio, theirs: RunFolder, command: tuple[str, ...], tmp_path: Path
) -> None:
    before = _files(theirs)
    outcome = studio(command[0], str(theirs.path), *command[1:], "--json")
    assert outcome.code == ExitCode.NOT_TRUSTED
    assert outcome.report["error"]["kind"] == "not_trusted"
    assert f'qlora-studio trust "{theirs.path}"' in outcome.report["error"]["advice"]
    assert _files(theirs) == before


def test_it_can_be_listed_and_watched(studio: Studio, theirs: RunFolder) -> None:
    (run,) = studio("runs", "--runs", str(theirs.path.parent), "--json").report["runs"]
    assert (run["trusted"], run["status"], run["steps"]) == (False, "lost", 20)
    assert "(not trusted)" in studio("runs", "--runs", str(theirs.path.parent)).out
    assert studio("watch", str(theirs.path), "--json").report["steps"] == 20


def test_it_is_trusted_once_the_user_has_seen_what_it_would_do(
    studio: Studio, theirs: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = studio("trust", str(theirs.path), "--json")
    assert (asked.code, asked.report["error"]["kind"]) == (ExitCode.NOT_TRUSTED, "not_trusted")
    for answer, code in (("\n", ExitCode.NOT_TRUSTED), ("no\n", ExitCode.NOT_TRUSTED), ("y\n", ExitCode.OK)):
        assert objection(theirs.path)
        monkeypatch.setattr("sys.stdin", _Terminal(answer))
        asked = studio("trust", str(theirs.path))
        assert asked.code == code
        assert "Loads the base model: starter" in asked.err
    assert not objection(theirs.path)


def test_several_are_trusted_without_a_question(studio: Studio, theirs: RunFolder) -> None:
    other = theirs.path.parent / "renamed"
    other.mkdir()
    (other / "run.toml").write_bytes(theirs.config_path.read_bytes())
    told = studio("trust", str(theirs.path), str(other), "--yes", "--json")
    assert told.report == {"trusted": [str(theirs.path), str(other)]}
    assert not objection(theirs.path) and not objection(other)


def test_ones_own_run_that_was_edited_says_so_and_how_to_go_on(studio: Studio, tmp_path: Path) -> None:
    mine = write_sample_run(tmp_path / "mine", steps=20, ending=Finished(status="stopped"))
    mine.config_path.write_text(mine.config_path.read_text("utf-8").replace("epochs", "# edited\nepochs"), "utf-8")
    refused = studio("resume", str(mine.path))
    assert refused.code == ExitCode.NOT_TRUSTED
    assert "run.toml of mine has changed since it was recorded" in refused.err
    assert studio("trust", str(mine.path), "--yes").code == ExitCode.OK
    assert not objection(mine.path)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_planted_job_is_never_obeyed_whether_the_run_is_trusted_or_not(
    studio: Studio, theirs: RunFolder, is_trusted: bool
) -> None:
    if is_trusted:
        assert studio("trust", str(theirs.path), "--yes").code == ExitCode.OK
    theirs.job_path.write_text(UploadJob(path="/root", repository="some/body").model_dump_json())
    before = _files(theirs)
    for command in (("resume",), ("queue",), ("trust", "--yes"), ("chat", "--prompt", "x")):
        outcome = studio(command[0], str(theirs.path), *command[1:])
        assert outcome.code == ExitCode.NOT_TRUSTED
        assert "holds a job.json" in outcome.err
    assert _files(theirs) == before


def test_a_queue_that_names_it_does_not_start_it(theirs: RunFolder) -> None:
    runs = theirs.path.parent
    (runs / "queue.json").write_text(f'[{{"path": "{theirs.path.as_posix()}"}}]')
    runner = QueueRunner(RunQueue(runs), lambda: ())
    assert runner.start_next() is None
    [(folder, error)] = runner.failures
    assert (folder.path, error.kind) == (theirs.path, "not_trusted")
    assert not theirs.log_path.exists()
