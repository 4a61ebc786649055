"""`compare` reads runs as every version left them, says what differs, and touches nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.errors import ExitCode
from tests.cli.conftest import Outcome
from tests.compatibility.unpacking import unpack, versions


@pytest.mark.parametrize("version", versions(), ids=lambda version: version.name)
def test_runs_are_compared_for_people_and_for_programs(
    studio: Callable[..., Outcome], version: Path, tmp_path: Path
) -> None:
    old = unpack(version, tmp_path / "old")
    before = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    words = ("compare", str(old.finished.path), str(old.paused.path))

    told = studio(*words, "--json").report
    shown = studio(*words).out

    assert [run["name"] for run in told["runs"]] == ["finished", "paused"]
    rows = {row["name"]: row for group in ("settings", "results", "cost") for row in told[group]}
    assert {
        name for name, row in rows.items() if row["differs"] and "." in name and not name.startswith("results")
    } >= {
        "training.max_steps",
        "export.merge",
    }
    assert not rows["lora.rank"]["differs"]
    held_out = rows["results.held_out_loss"]["values"]
    assert held_out[0] == old.figures["finished"]["eval_loss"]
    assert told["caution"] is None  # they held out the same rows, by content
    assert f"{held_out[0]:.4f} (best)" in shown
    assert "LoRA rank" not in shown
    assert "Merge at the end" in shown
    assert {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()} == before


def test_what_is_no_run_is_refused_by_its_name(studio: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = studio("compare", str(tmp_path), "--json")

    assert outcome.code == ExitCode.RUN_NOT_FOUND
    assert str(tmp_path) in outcome.report["error"]["message"]
