"""Run folders that older versions left are read, resumed and exported as if this version had made them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import parse_command
from qlora_studio.storage.durable import sha256_of
from qlora_studio.storage.models.folder import folder_tensors
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, verify
from qlora_studio.storage.runs.export_folder import damages, exports_of
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.upload_files import is_verified
from qlora_studio.ui.state.run_line import KnownRuns
from tests.cli.conftest import Outcome, run_cli, start_cli
from tests.compatibility.unpacking import OldRuns, unpack, versions
from tests.trusted import trusted

Weights = dict[str, NDArray[np.float32]]
_ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module", params=versions(), ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> Iterator[Path]:
    """What a version left, in the repository; it stays as it is."""
    path: Path = request.param
    before = _hashes(path)
    yield path
    assert _hashes(path) == before


@pytest.fixture
def old(version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldRuns:
    """A copy of it to work with, trusted, by workers that see no card: it was made without one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runs = unpack(version, tmp_path / "old")
    trusted(runs.finished.path)
    trusted(runs.paused.path)
    return runs


def test_there_is_an_older_version_to_try() -> None:
    assert versions()


def test_the_command_line_tells_of_an_old_run_what_its_own_version_told(old: OldRuns, studio_home: Path) -> None:
    for run in (old.finished, old.paused):
        outcome = run_cli("watch", str(run.path), "--json", home=studio_home)
        assert _told_again(outcome.report, old.figures[run.path.name])
    listed = run_cli("runs", "--runs", str(old.path), "--json", home=studio_home).report["runs"]
    assert len(listed) == len(old.figures["runs"]) == 2
    for now, then in zip(listed, old.figures["runs"], strict=True):
        del then["words"]  # they hold the time of day where it was made
        assert _told_again(now, then)


def test_the_window_lists_an_old_run_with_what_can_be_done_about_it(old: OldRuns) -> None:
    paused, finished = sorted(KnownRuns().look(old.path), key=lambda line: line.name, reverse=True)
    assert [line.problem for line in (paused, finished)] == ["", ""]
    assert (paused.state, paused.resumable, paused.has_adapter) == ("paused", True, False)
    assert (finished.state, finished.resumable, finished.has_adapter) == ("finished", False, True)
    assert finished.evaluation_loss == old.figures["finished"]["eval_loss"]
    assert finished.checkpoints == (6, 4)
    assert {export.exported.format for export in finished.exports} == {"safetensors", "gguf:q8_0"}
    assert all(export.report.verified for export in finished.exports)


def test_an_old_run_is_read_with_its_config_and_its_curves(old: OldRuns) -> None:
    for run in (old.finished, old.paused):
        config, (state, history) = run.config(), run.replay()
        assert Path(config.model.source) == old.path / "model"
        assert state.model is not None
        assert state.dataset is not None
        assert (state.dataset.training_rows, state.dataset.evaluation_rows) == (36, 4)
        assert state.step == len(history.steps["loss"]) == old.figures[run.path.name]["steps"]
        assert float(history.steps["loss"].y.mean()) == pytest.approx(old.figures[run.path.name]["train_loss"])
        assert history.evaluation.y[-1] == old.figures[run.path.name]["eval_loss"]
        assert [sample.step for sample in state.samples] == history.evaluation.x.tolist()


def test_no_event_no_command_and_no_job_of_an_old_run_is_passed_over(old: OldRuns) -> None:
    jobs = [RunFolder(path.parent) for path in sorted(old.finished.jobs_path.rglob("job.json"))]
    assert {folder.job().kind for folder in jobs} == {"verify", "export", "chat"}
    for folder in (old.finished, old.paused, *jobs):
        assert len(list(folder.events())) == len(_lines(folder.events_path)) > 0
        assert all(parse_command(line) for line in _lines(folder.commands_path))
        assert folder.state().phase.is_over
        assert folder.state().failure is None


def test_checkpoints_adapter_and_exports_of_an_old_run_are_found_whole(old: OldRuns) -> None:
    for run in (old.finished, old.paused):
        checkpoints = CheckpointFolder(run.checkpoints_path)
        assert len(list(checkpoints.safe())) == len(checkpoints.all()) == 2
        assert checkpoints.best() is not None
    assert verify(old.finished.adapter_path)
    exports = [path for path, _ in exports_of(old.finished.exports_path)]
    assert sorted(path.name for path in exports) == ["gguf-q8_0", "safetensors"]
    assert [(damages(path), is_verified(path)) for path in exports] == [([], True), ([], True)]


@pytest.mark.slow
def test_an_old_export_is_proved_again_and_an_old_adapter_exported_anew(
    old: OldRuns, tmp_path: Path, studio_home: Path
) -> None:
    merged, anew = old.finished.exports_path / "safetensors", tmp_path / "anew"
    proof, export = _side_by_side(
        ("verify", str(merged)), ("export", str(old.finished.path), "--out", str(anew)), home=studio_home
    )
    assert proof.report["verified"] and proof.code == ExitCode.OK, proof.report["checks"]
    assert export.report["verified"] and export.code == ExitCode.OK, export.report["checks"]
    assert _shapes(anew) == _shapes(merged)


def test_an_old_paused_run_goes_on_with_its_optimizer_to_its_end(old: OldRuns, studio_home: Path) -> None:
    step, (newest, *_) = old.paused.state().step, CheckpointFolder(old.paused.checkpoints_path).all()
    at_pause, moments = load_file(newest / _ADAPTER), _second_moments(newest)
    (outcome,) = _side_by_side(("resume", str(old.paused.path)), home=studio_home)
    assert outcome.report["status"] == "completed", outcome.err
    state = old.paused.state()
    assert (state.phase, state.step, state.resumptions) == (Phase.FINISHED, state.total_steps, (step,))
    assert state.model is not None and not state.model.rows_end_to_end  # as it began
    assert _distance(_adapter(old.paused), at_pause) > 0
    assert _dropout(old.paused) == 0.05 != RunConfig().lora.dropout  # its own, whatever is the default today
    # Adam's second moment forgets a thousandth a step and only adds to that: a new optimizer would begin at nothing.
    left = 0.999 ** (state.step - step)
    last = _second_moments(CheckpointFolder(old.paused.checkpoints_path).all()[0])
    assert len(last) == len(moments) > 0
    assert all((now >= 0.999 * left * then).all() for now, then in zip(last, moments, strict=True))
    assert any(then.any() for then in moments)


def _dropout(run: RunFolder) -> float:
    return float(json.loads((run.adapter_path / "adapter_config.json").read_bytes())["lora_dropout"])


def _second_moments(checkpoint: Path) -> list[Any]:
    import torch

    states = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    return [states[number]["exp_avg_sq"].float() for number in sorted(states)]


def _lines(log: Path) -> list[bytes]:
    return log.read_bytes().splitlines() if log.exists() else []


def _told_again(now: dict[str, Any], then: dict[str, Any]) -> bool:
    """Whether everything that was told then is told now; more may be. Paths count as paths, on Windows, too."""
    now = json.loads(json.dumps(now).replace("\\\\", "/"))
    return {key: now.get(key) for key in then} == then


def _side_by_side(*commands: tuple[str, ...], home: Path) -> list[Outcome]:
    processes = [start_cli(*command, "--json", home=home) for command in commands]
    ended = [(process.communicate(), process.returncode) for process in processes]
    return [Outcome(code, out, err) for (out, err), code in ended]


def _adapter(run: RunFolder) -> Weights:
    weights: Weights = load_file(run.adapter_path / _ADAPTER)
    return weights


def _distance(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def _shapes(model: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in folder_tensors(model).items()}


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
