"""Every file of a real checkpoint, a real adapter and a real base: cut short or with one flipped bit, it is noticed."""

import os
import shutil
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.job import TrainJob
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.adapter import adapter_folder, check_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.worker import preflight
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, DamagedCheckpoint, verify
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import make_run, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def finished(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained, with a base of its own."""
    place = tmp_path_factory.mktemp("finished")
    base = Path(shutil.copytree(tiny_llama, place / "base"))
    folder = make_run(place, base, "training.max_steps=2", "evaluation.every_steps=0", rows=8)
    assert run_to_end(folder).phase is Phase.FINISHED, folder.state().failure
    return folder


def _damage(file: Path, how: str) -> None:
    """Cut a file in half, or flip a bit in its middle; its time stays, as on a disk that fails."""
    stat = file.stat()
    content = bytearray(file.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_each_file_of_a_checkpoint_is_vouched_for(finished: RunFolder, tmp_path: Path, how: str) -> None:
    newest = next(CheckpointFolder(finished.checkpoints_path).safe())
    files = sorted(item for item in newest.path.rglob("*") if item.is_file() and item.name != "manifest.json")
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= {
        item.name for item in files
    }
    for file in files:
        copy = Path(shutil.copytree(newest.path, tmp_path / file.name))
        _damage(copy / file.relative_to(newest.path), how)
        with pytest.raises(DamagedCheckpoint, match=file.name):
            verify(copy)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_each_file_of_a_final_adapter_is_vouched_for(finished: RunFolder, tmp_path: Path, how: str) -> None:
    files = sorted(item.name for item in finished.adapter_path.iterdir() if item.name != "manifest.json")
    assert "adapter_model.safetensors" in files
    for name in files:
        run = RunFolder(shutil.copytree(finished.path, tmp_path / name))
        _damage(run.adapter_path / name, how)
        with pytest.raises(StudioError, match=name) as caught:
            adapter_folder(run, "final")
        assert caught.value.kind == "damaged"


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("checkpoint", ["final", "2"])
def test_weights_or_config_of_the_base_that_changed_are_refused_for_an_export(
    finished: RunFolder, tmp_path: Path, how: str, checkpoint: str
) -> None:
    base = Path(finished.config().model.source)
    check_base(finished, adapter_folder(finished, checkpoint), base, anew=True)
    for name in ("model.safetensors", "config.json"):
        copy = Path(shutil.copytree(base, tmp_path / name))
        check_base(finished, adapter_folder(finished, checkpoint), copy, anew=True)
        _damage(copy / name, how)
        with pytest.raises(StudioError, match=name) as caught:
            check_base(finished, adapter_folder(finished, checkpoint), copy, anew=True)
        assert caught.value.kind == "fingerprint_mismatch"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_base_that_was_cut_short_is_refused_in_words_before_anything_is_known_of_it(
    finished: RunFolder, tmp_path: Path, name: str
) -> None:
    base = Path(shutil.copytree(finished.config().model.source, tmp_path / "base"))
    _damage(base / name, "truncated")
    run = RunFolder(tmp_path / "run")
    run.write_config(finished.config().with_value("model.source", str(base)))
    with pytest.raises(StudioError) as caught:
        preflight(TrainJob(), run)
        tokenizer_of(base)
    assert caught.value.kind == "model_refused"
    assert caught.value.advice


def test_weights_that_cannot_be_read_are_told_in_words_where_they_are_loaded(
    finished: RunFolder, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(finished.config().model.source, tmp_path / "base"))
    _damage(base / "model.safetensors", "truncated")
    with pytest.raises(StudioError) as caught:
        load_base(base, finished.config(), choose_device(finished.config(), QUIET))
    assert caught.value.kind == "model_refused"
