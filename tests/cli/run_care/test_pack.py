"""`import` takes a run in that somebody sent, and `report` packs one so that it can be sent."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]


@pytest.fixture
def run(studio_home: Path, tmp_path: Path) -> RunFolder:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"prompt": "canary", "completion": "b"}\n' * 150)
    return create_run_folder(studio_home / "runs", RunConfig.model_validate({"data": {"path": str(data)}}))


def test_a_report_that_was_asked_for_with_data_is_taken_in_as_a_run_that_gives_no_orders(
    studio: Studio, run: RunFolder, studio_home: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "report.zip"
    assert studio("--json", "report", str(run.path), "--out", str(pack), "--with-data").report["with_data"] is True
    with zipfile.ZipFile(pack) as packed:
        assert packed.read("rows.jsonl").count(b"canary") == 100
        assert "your" not in packed.read("CONTENTS.txt").decode() and b"(100)" in packed.read("CONTENTS.txt")

    taken = RunFolder(studio("--json", "import", str(pack)).report["run_dir"])
    assert taken.path.parent == studio_home / "runs" and taken.config() == run.config()
    assert trust.objection(taken.path) is not None


def test_a_report_without_data_holds_none(studio: Studio, run: RunFolder, tmp_path: Path) -> None:
    pack = tmp_path / "report.zip"
    studio("report", str(run.path), "--out", str(pack))
    with zipfile.ZipFile(pack) as packed:
        assert not any(b"canary" in packed.read(name) or b"mine" in packed.read(name) for name in packed.namelist())


def test_a_file_that_is_there_is_not_written_over(studio: Studio, run: RunFolder, tmp_path: Path) -> None:
    pack = tmp_path / "report.zip"
    pack.write_text("mine")
    outcome = studio("report", str(run.path), "--out", str(pack))
    assert outcome.code == ExitCode.USAGE and pack.read_text() == "mine"


def test_of_a_run_that_is_not_trusted_no_file_of_this_computer_is_packed(
    studio: Studio, run: RunFolder, tmp_path: Path
) -> None:
    theirs = run.path.rename(run.path.with_name("theirs"))
    pack = tmp_path / "report.zip"
    studio("report", str(theirs), "--out", str(pack), "--with-data")
    with zipfile.ZipFile(pack) as packed:
        assert packed.read("rows.jsonl") == b"" and b"not trusted" in packed.read("CONTENTS.txt")
