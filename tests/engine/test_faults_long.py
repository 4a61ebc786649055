"""Long form (`make test-faults`): a run killed at fifty random moments ends with the weights of one left alone."""

import hashlib
import random
import time
from pathlib import Path

import pytest

from qlora_studio.core.events import Failed, Resumed, StepDone
from qlora_studio.core.run_state import Phase
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.run_folder import RunFolder
from tests.engine.training_run import final_weights, follow, make_run, run_to_end

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

_KILLS = 50
_LONGER = ("training.epochs=14", "evaluation.every_steps=10", "checkpoint.keep=3")


def _hashes(folder: RunFolder, model: Path) -> dict[str, str]:
    files = [Path(folder.config().data.path), *sorted(item for item in model.iterdir() if item.is_file())]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _newest_safe_step(folder: RunFolder) -> int:
    newest = next(CheckpointFolder(folder.checkpoints_path).safe(), None)
    return newest.step if newest else 0


def test_fifty_kills_at_random_moments_lose_no_checkpoint_and_no_bit(tiny_llama: Path, tmp_path: Path) -> None:
    undisturbed = make_run(tmp_path / "undisturbed", tiny_llama, *_LONGER)
    assert run_to_end(undisturbed).phase is Phase.FINISHED
    folder = make_run(tmp_path / "disturbed", tiny_llama, *_LONGER)
    before = _hashes(folder, tiny_llama)
    moments = random.Random(7)
    kills, safe, lost = 0, 0, []
    while kills < _KILLS:
        process = start_worker(folder)
        if moments.random() < 0.7:  # most kills in the midst of training, the others while it starts
            follow(process, lambda event: isinstance(event, StepDone))
        time.sleep(moments.uniform(0.0, 4.0))  # the moment of the kill, not a wait for something
        if process.poll() is not None:
            break
        process.kill()
        process.wait(10)
        kills += 1
        step = _newest_safe_step(folder)
        assert step >= safe, "a safe checkpoint was lost"
        lost.append(folder.state().step - step)
        safe = step
    state = run_to_end(folder)
    assert state.phase is Phase.FINISHED, state.failure
    assert final_weights(folder) == final_weights(undisturbed)
    assert _hashes(folder, tiny_llama) == before, "the base model or the dataset was modified"
    resumed = sum(isinstance(event, Resumed) for event in folder.events())
    failed = sum(isinstance(event, Failed) for event in folder.events())
    print(
        f"\nkills {kills}, resumed {resumed}, failed {failed}, most steps lost by one {max(lost)}, in all {sum(lost)}"
    )
    assert max(lost) <= 2, "more was lost than the steps since the last safe checkpoint"
