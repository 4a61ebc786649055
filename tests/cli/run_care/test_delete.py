"""`delete` removes runs for ever, none of them where one may not go, and says before what would be gone."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from qlora_studio.cli.console import Console
from qlora_studio.cli.run_care.delete_command import delete_runs
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder


@pytest.fixture
def runs(studio_home: Path) -> tuple[RunFolder, RunFolder]:
    place = studio_home / "runs"
    return create_run_folder(place, RunConfig(name="one")), create_run_folder(place, RunConfig(name="two"))


def delete(*folders: RunFolder, yes: bool = True) -> int:
    return delete_runs(Namespace(run_dirs=[str(folder.path) for folder in folders], yes=yes), Console(json=True))


def test_runs_are_deleted_and_it_is_said_how_much_that_freed(
    runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    size = sum(folder.config_path.stat().st_size for folder in runs)
    assert delete(*runs, runs[0]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told == {"deleted": [str(folder.path) for folder in runs], "freed_bytes": size}
    assert not any(folder.path.exists() for folder in runs)


def test_without_a_yes_nothing_is_deleted(runs: tuple[RunFolder, RunFolder]) -> None:
    with pytest.raises(StudioError, match=r"2 runs, .* would be gone for ever") as error:
        delete(*runs, yes=False)
    assert error.value.kind is FailureKind.USAGE and all(folder.path.exists() for folder in runs)


def test_where_one_is_at_work_none_is_deleted(runs: tuple[RunFolder, RunFolder]) -> None:
    with runs[1].lock().acquire(blocking=False), pytest.raises(StudioError) as error:
        delete(*runs)
    assert error.value.kind is FailureKind.RUN_BUSY and all(folder.path.exists() for folder in runs)
