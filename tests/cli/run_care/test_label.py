"""`rename`, `tags` and `note` say and change what a user calls a run; its folder and its settings stay as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.run_care.run_label import RunLabel, read_label
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]


@pytest.fixture
def run(studio_home: Path) -> RunFolder:
    return create_run_folder(studio_home / "runs", RunConfig(name="first"))


def test_a_run_is_called_otherwise_tagged_and_noted_and_stays_as_it_was(studio: Studio, run: RunFolder) -> None:
    place, before = str(run.path), run.config_path.read_bytes()
    assert studio("--json", "rename", place, "My", "baseline").report["name"] == "My baseline"
    assert studio("--json", "tags", place, "good,", "rank 32").report["tags"] == ["good", "rank 32"]
    assert studio("--json", "tags", place, "--add", "old", "--remove", "good").report["tags"] == ["rank 32", "old"]
    studio("note", place, "hot at first")

    assert read_label(run) == RunLabel(name="My baseline", tags=("rank 32", "old"), note="hot at first")
    assert run.config_path.read_bytes() == before and trust.objection(run.path) is None
    [listed] = studio("--json", "runs").report["runs"]
    assert (listed["title"], listed["tags"]) == ("My baseline", ["rank 32", "old"])
    assert "called My baseline  [rank 32, old]" in studio("runs").out
    assert studio("note", "My base").out == "hot at first\n"  # named as its user calls it


def test_without_words_it_is_said_what_is_so_and_nothing_is_written(studio: Studio, run: RunFolder) -> None:
    told = [studio(command, str(run.path)).out for command in ("rename", "tags", "note")]
    assert told == ["first\n", "none\n", "none\n"] and not (run.path / "label.json").exists()


def test_what_is_cleared_is_as_before(studio: Studio, run: RunFolder) -> None:
    studio("rename", str(run.path), "x")
    assert studio("--json", "rename", str(run.path), "--clear").report["name"] == "first"
    assert not (run.path / "label.json").exists()


@pytest.mark.parametrize("words", [["x" * 121], ["a\nb"], ["x", "--clear"]])
def test_what_cannot_be_a_name_is_refused_and_nothing_is_written(
    words: list[str], studio: Studio, run: RunFolder
) -> None:
    outcome = studio("rename", str(run.path), *words)
    assert outcome.code == ExitCode.USAGE and "Traceback" not in outcome.err
    assert not (run.path / "label.json").exists()
