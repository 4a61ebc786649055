"""A checkpoint of a stranger's run: what would run code is not opened, and what cannot be trained on is told."""

import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.training.saved_state import require_sound_state, require_state_of
from tests.storage.models.damage import flipped, outcome

_OLD = Path(__file__).parents[2] / "compatibility" / "v0_1" / "finished" / "checkpoints" / "checkpoint-6"


class _Harm:
    """Writes a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(_OLD, tmp_path / "checkpoint-6"))


def _changed(path: Path, change: Callable[[Any], object]) -> None:
    found = torch.load(path, weights_only=False)
    change(found)
    torch.save(found, path)


def test_a_checkpoint_as_it_was_written_is_taken(checkpoint: Path) -> None:
    require_sound_state(checkpoint, 6)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"])
@pytest.mark.parametrize("save", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found))])
def test_a_pickle_is_refused_by_name_and_never_opened(checkpoint: Path, name: str, save: Any) -> None:
    target = checkpoint.parent / "was run"
    save({"state": {}, "param_groups": [_Harm(target)]}, checkpoint / name)
    told = outcome(lambda: require_sound_state(checkpoint, 6))
    assert name in told and "is a pickle that would run code" in told and "weights_only" not in told
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("optimizer.pt", lambda found: found["state"][0]["exp_avg"].fill_(float("nan")), "no number"),
        ("optimizer.pt", lambda found: found["param_groups"][0].update(lr=float("nan")), "no number"),
        ("optimizer.pt", lambda found: found.pop("state"), "not what this program writes"),
        ("scheduler.pt", lambda found: found.update(optimizer=5), "optimizer is 5"),
        ("scheduler.pt", lambda found: found.update(last_epoch="6"), "last_epoch is '6'"),
        ("scheduler.pt", lambda found: found.update(base_lrs=["x"]), "rates that are no numbers"),
        ("rng_state.pth", lambda found: found.update(python=(3, (1,), None)), "rng_state.pth"),
        ("rng_state.pth", lambda found: found.update(cpu=torch.zeros(3, dtype=torch.uint8)), "rng_state.pth"),
        ("rng_state.pth", lambda found: found.pop("numpy"), "rng_state.pth"),
    ],
)
def test_a_state_that_nothing_can_be_trained_from_is_told(
    checkpoint: Path, name: str, change: Callable[[Any], object], words: str
) -> None:
    _changed(checkpoint / name, change)
    assert words in outcome(lambda: require_sound_state(checkpoint, 6))


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"a": 1}', '{"global_step": "6"}', "{" * 100_000])
def test_a_trainers_state_that_is_none_is_told(checkpoint: Path, text: str) -> None:
    (checkpoint / "trainer_state.json").write_text(text)
    assert "trainer_state.json is refused" in outcome(lambda: require_sound_state(checkpoint, 6))


def test_a_trainers_state_of_another_step_is_told(checkpoint: Path) -> None:
    assert "it is of step 6, and the checkpoint of step 7" in outcome(lambda: require_sound_state(checkpoint, 7))


@pytest.mark.skipif(os.name != "posix", reason="pipes as files")
def test_a_pipe_is_not_waited_for(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").unlink()
    os.mkfifo(checkpoint / "optimizer.pt")
    assert "it is no regular file" in outcome(lambda: require_sound_state(checkpoint, 6))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_no_flipped_bit_comes_through_as_another_error(checkpoint: Path, name: str) -> None:
    size = 8 * (checkpoint / name).stat().st_size
    step = size // 40 + random.Random(name).randrange(7)
    for _ in flipped(checkpoint / name, range(0, size, step)):
        outcome(lambda: require_sound_state(checkpoint, 6))


def test_a_state_for_other_tensors_than_those_that_are_trained_is_told(checkpoint: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.state[parameter] = {"exp_avg": torch.zeros(2, 8), "exp_avg_sq": torch.zeros(4, 4)}
    with pytest.raises(StudioError, match=r"keeps \(2, 8\) for a.weight, which is \(4, 4\)"):
        require_state_of([("a.weight", parameter)], optimizer, checkpoint)


def test_an_adapter_that_is_no_number_is_told(checkpoint: Path) -> None:
    parameter = torch.nn.Parameter(torch.full((4,), float("nan")))
    with pytest.raises(StudioError, match="the adapter's a is no number"):
        require_state_of([("a", parameter)], torch.optim.AdamW([parameter]), checkpoint)
