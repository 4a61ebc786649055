"""A run folder gives orders only where this user's data folder has a record of its run.toml, as it is."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.job import ChatJob, ExportJob, Job, UploadJob, VerifyJob
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.runs.trust import NotTrusted, objection, take_over_once, trusted_text
from qlora_studio.storage.runs.trusted_run import Question, TrustedRun, given_job, require_startable

# Submits a run in a child that is killed at its n-th sync, for every n, and says what each kill left.
_KILLED = """
import os, signal, sys
from pathlib import Path
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.runs.trust import objection

real, left = os.fsync, [0]

def killing(descriptor):
    real(descriptor)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = killing
for number in range(1, 9):
    runs = Path(sys.argv[1]) / str(number)
    if (child := os.fork()) == 0:
        left[0] = number
        create_run_folder(runs, RunConfig(name=f"run {number}"))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    for path in runs.glob("*/run.toml"):
        print("untrusted" if objection(path.parent) else "trusted", flush=True)
    print("killed" if status else "done", flush=True)
"""
_AT_ONCE = """
import os, sys
from pathlib import Path
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.runs.run_folder import create_run_folder

if os.fork():
    os.fork()
create_run_folder(Path(sys.argv[1]), RunConfig(name=f"of {os.getpid()}"))
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose records are not shared with other tests."""
    home = tmp_path / "user"
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(home))
    return home


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create_run_folder(tmp_path / "elsewhere", RunConfig(name="mine"))


@pytest.fixture
def be_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "another user"))


def why_not(folder: RunFolder) -> str:
    found = objection(folder.path)
    return found.message if found else ""


def test_a_run_is_trusted_wherever_it_was_submitted(run: RunFolder) -> None:
    assert not why_not(run)
    assert TrustedRun(run.path).config() == run.config()


def test_a_run_of_another_user_is_not_trusted(run: RunFolder, be_another: Callable[[], None]) -> None:
    be_another()
    assert why_not(run).startswith("Nothing on this computer says that")
    with pytest.raises(NotTrusted) as refused:
        TrustedRun(run.path)
    assert refused.value.kind is FailureKind.NOT_TRUSTED
    assert f'qlora-studio trust "{run.path}"' in refused.value.advice


def test_records_that_are_copied_without_their_key_say_nothing(
    run: RunFolder, own_home: Path, tmp_path: Path, be_another: Callable[[], None]
) -> None:
    be_another()
    create_run_folder(tmp_path / "other", RunConfig(name="another"))
    for path in (own_home / "trust").glob("*.json"):
        shutil.copy(path, tmp_path / "another user" / "trust")
    assert why_not(run)


def test_a_run_that_was_moved_or_copied_stays_trusted(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy" / run.path.name))
    moved = RunFolder(run.path.rename(tmp_path / run.path.name))
    assert not why_not(copy)
    assert not why_not(moved)


def test_a_run_under_another_name_is_not_trusted_and_is_told_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    create_run_folder(tmp_path, RunConfig(name="another"))
    renamed = RunFolder(run.path.rename(tmp_path / "renamed"))
    assert why_not(renamed).startswith(f"renamed was recorded on this computer as {run.path.name}: its folder was")


def test_a_run_whose_settings_were_changed_is_no_longer_trusted_and_says_so(run: RunFolder) -> None:
    run.config_path.write_text(run.config_path.read_text("utf-8").replace("epochs", "# here\nepochs"), "utf-8")
    assert why_not(run) == f"The run.toml of {run.path.name} has changed since it was recorded on this computer."


def test_whoever_changed_his_own_run_trusts_it_again_once_he_has_seen_it(run: RunFolder) -> None:
    run.config_path.write_text(run.config_path.read_text("utf-8").replace('name = "mine"', 'name = "mine too"'))
    question = Question(run)
    assert why_not(run)
    question.accept()
    assert TrustedRun(run.path).config().name == "mine too"


def test_what_is_trusted_is_what_was_shown_not_what_came_after(run: RunFolder, be_another: Callable[[], None]) -> None:
    be_another()
    question = Question(run)
    run.config_path.write_text("name = 'exchanged'\n")
    question.accept()
    assert why_not(run)


def test_what_a_run_would_do_is_told_in_full(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "model": {"source": "some/model", "revision": "v2"},
            "quantization": {"original": "some/original"},
            "lora": {"start_from": "/their/adapter"},
            "data": {"path": "/secret.txt", "more": [{"path": "also/that"}], "evaluation_path": "/held.jsonl"},
            "export": {"formats": ["safetensors", "gguf:q8_0"]},
        }
    )
    told = "\n".join(Question(create_run_folder(tmp_path, config)).lines)
    for named in ("some/model (v2)", "some/original", "/their/adapter", "/secret.txt, also/that", "/held.jsonl"):
        assert named in told
    assert f"exports (safetensors, gguf:q8_0) into {tmp_path}" in told
    assert "Nothing is uploaded" in told


def test_the_config_of_a_trusted_run_is_the_one_that_was_recorded(run: RunFolder) -> None:
    trusted = TrustedRun(run.path)
    run.config_path.write_text("name = 'exchanged'\n")
    assert trusted.config().name == "mine"
    trusted.write_config(trusted.config().with_value("name", "rewritten"))
    assert TrustedRun(run.path).config().name == trusted.config().name == "rewritten"


def test_a_run_with_a_job_is_not_trusted_and_cannot_be(run: RunFolder) -> None:
    run.job_path.write_text(UploadJob(path="/home", repository="some/body").model_dump_json())
    assert "holds a job.json" in why_not(run)
    with pytest.raises(NotTrusted, match=r"holds a job\.json"):
        Question(run)
    run.job_path.unlink()
    assert not why_not(run)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_run_toml_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    assert "it is no regular file" in why_not(RunFolder(tmp_path))
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / "run.toml").symlink_to("/dev/zero")
    assert "leads out of its folder" in why_not(RunFolder(tmp_path / "endless"))


@pytest.mark.parametrize("kind", [ExportJob, ChatJob, lambda run_dir: VerifyJob(path="x", run_dir=run_dir)])
def test_no_job_is_made_for_a_run_that_is_not_trusted(
    kind: Callable[..., Job], run: RunFolder, be_another: Callable[[], None]
) -> None:
    assert create_job_folder(run.jobs_path, kind(run_dir=str(run.path))).job_path.exists()
    shutil.rmtree(run.jobs_path)
    be_another()
    with pytest.raises(NotTrusted):
        create_job_folder(run.jobs_path, kind(run_dir=str(run.path)))
    assert not run.jobs_path.exists()


def test_the_queue_takes_no_run_that_is_not_trusted(run: RunFolder, be_another: Callable[[], None]) -> None:
    be_another()
    queue = RunQueue(run.path.parent)
    with pytest.raises(NotTrusted):
        queue.add(run)
    assert queue.runs() == []


def test_a_job_is_started_by_whoever_made_it_and_never_by_its_folder(tmp_path: Path) -> None:
    made = create_job_folder(tmp_path, UploadJob(path="/home", repository="some/body"))
    require_startable(made)
    assert given_job(made, made.given_job) == UploadJob(path="/home", repository="some/body")
    for given in ("", "0" * 64):
        with pytest.raises(StudioError, match="not obeyed"):
            given_job(made, given)
    with pytest.raises(StudioError, match="not obeyed"):
        require_startable(RunFolder(made.path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_the_key_is_for_this_user_alone(run: RunFolder, own_home: Path) -> None:
    assert stat.S_IMODE((own_home / "trust" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((own_home / "trust").stat().st_mode) == 0o700
    assert len((own_home / "trust" / "key").read_bytes()) == 32


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_broken_key_is_replaced_and_every_run_is_asked_about_again(
    left: bytes, run: RunFolder, own_home: Path, tmp_path: Path
) -> None:
    (own_home / "trust" / "key").write_bytes(left)
    assert why_not(run)
    assert not why_not(create_run_folder(tmp_path, RunConfig(name="later")))
    assert why_not(run)


def test_the_runs_in_the_users_own_folder_are_taken_over_once(tmp_path: Path, be_another: Callable[[], None]) -> None:
    runs = tmp_path / "runs"
    old, late = (create_run_folder(runs, RunConfig(name=name)) for name in ("old", "late"))
    aside = late.path.rename(tmp_path / "aside")
    (runs / "queue.json").write_text("[]")
    (runs / "no run").mkdir()
    be_another()
    take_over_once(runs)
    assert not why_not(old)
    aside.rename(late.path)
    take_over_once(runs)
    assert why_not(late)


def test_nothing_is_taken_over_where_there_is_nothing_and_not_later_either(
    run: RunFolder, be_another: Callable[[], None]
) -> None:
    be_another()
    take_over_once(run.path / "no such folder")
    take_over_once(run.path.parent)
    assert why_not(run)


@pytest.mark.parametrize(("days", "kept"), [(30, True), (400, False)])
def test_records_of_runs_that_are_long_gone_do_not_pile_up(
    days: int, kept: bool, run: RunFolder, own_home: Path, tmp_path: Path
) -> None:
    [record] = (own_home / "trust").glob("*.json")
    staying = create_run_folder(tmp_path, RunConfig(name="staying"))
    for path in (own_home / "trust").glob("*.json"):
        os.utime(path, (time.time() - days * 86400,) * 2)
    shutil.rmtree(run.path)
    create_run_folder(tmp_path, RunConfig(name="next"))
    assert record.exists() == kept
    assert not why_not(staying)


def test_records_that_are_broken_harm_nothing(run: RunFolder, own_home: Path, be_another: Callable[[], None]) -> None:
    for name, text in (("a.json", "{"), ("b.json", "[1]"), ("c.json", json.dumps({"path": 1}))):
        (own_home / "trust" / name).write_text(text)
        os.utime(own_home / "trust" / name, (0, 0))
    assert trusted_text(run.path)
    run.config_path.write_text("name = 'x'")
    assert "has changed" in why_not(run)
    create_run_folder(run.path.parent, RunConfig(name="next"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_kill_at_any_sync_of_a_submission_leaves_no_run_that_is_not_trusted(tmp_path: Path, own_home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words.count("killed") >= 2
    assert words[-2:] == ["trusted", "done"]
    assert "untrusted" not in words


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_several_programs_that_submit_at_once_share_one_key(tmp_path: Path, own_home: Path) -> None:
    process = subprocess.run([sys.executable, "-c", _AT_ONCE, str(tmp_path / "runs")], check=False)
    assert process.returncode == 0
    runs = [RunFolder(path) for path in (tmp_path / "runs").iterdir()]
    assert len(runs) == 3
    assert [why_not(run) for run in runs] == ["", "", ""]
