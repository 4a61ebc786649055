"""Which commands a worker obeys: a job all that were asked of it, a training run those of its own session."""

from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import AcceptChanges, Ask, LowerRate, Pause, Stop
from qlora_studio.core.run.events import Warned
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.context import JobContext, JobStopped
from qlora_studio.storage.runs.run_folder import RunFolder


def size(folder: RunFolder) -> str:
    return str(folder.commands_path.stat().st_size)


def test_a_job_obeys_what_was_asked_before_its_worker_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_job(ChatJob(run_dir="run"))
    ask = Ask(request=1, messages=[{"role": "user", "content": "Hi"}])
    folder.send(ask)
    monkeypatch.setenv("QLORA_STUDIO_COMMANDS_FROM", size(folder))
    context = JobContext(folder)
    assert [command.type for command in context.commands()] == ["ask"]
    context.close()


def test_a_run_that_is_resumed_does_not_obey_the_pause_of_its_last_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(RunConfig())
    folder.send(Pause())
    monkeypatch.setenv("QLORA_STUDIO_COMMANDS_FROM", size(folder))
    context = JobContext(folder)
    assert context.commands() == []
    context.close()


def test_orders_are_taken_first_and_what_else_came_is_obeyed_later(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(RunConfig())
    context = JobContext(folder)
    for command in (LowerRate(factor=0.5), Pause(), AcceptChanges()):
        folder.send(command)
    assert [command.type for command in context.initial_commands()] == ["lower_rate", "accept_changes"]
    context.raise_if_stopped()
    assert [command.type for command in context.commands()] == ["pause"]
    folder.send(Stop(save=False))
    with pytest.raises(JobStopped):
        context.raise_if_stopped()
    context.close()


def test_a_context_notices_that_its_folder_is_gone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_config(RunConfig())
    context = JobContext(folder)
    context.raise_if_gone()
    folder.path.rename(tmp_path / "elsewhere")
    with pytest.raises(StudioError, match="removed or moved"):
        context.raise_if_gone()
    context.close()


def test_a_damaged_command_is_told_and_never_obeyed_and_the_others_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(RunConfig())
    context = JobContext(folder)
    damaged = b'{"type":"stop","save":"\n{"type":"stop","time":1e20}\n{"type":"lower_rate","factor":1e9}\n'
    folder.commands_path.write_bytes(damaged + Pause().to_line().encode())
    assert [command.type for command in context.commands()] == ["pause"] and not context.stop_requested()
    assert context.commands() == []
    told = [event.message for event in folder.events() if isinstance(event, Warned)]
    assert told == ["3 lines of commands.jsonl could not be read, the first at line 1."]
    context.close()


def test_commands_that_cannot_be_read_at_all_are_told_once_and_end_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(RunConfig())
    folder.send(Pause())
    context = JobContext(folder)
    folder.commands_path.unlink()
    folder.commands_path.mkdir()
    for _ in range(3):
        context.raise_if_stopped()
    (told,) = [event.message for event in folder.events() if isinstance(event, Warned)]
    assert "commands.jsonl cannot be read" in told
    folder.commands_path.rmdir()
    folder.send(Stop())
    with pytest.raises(JobStopped):
        context.raise_if_stopped()
    context.close()
