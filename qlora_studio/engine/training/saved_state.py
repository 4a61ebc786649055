"""What a checkpoint holds beside its adapter, read as a stranger's: nothing in it is run, and what it says can be.

A manifest's hashes say that a checkpoint is what was written. Who wrote it, they do not say: a run may come from
elsewhere. So each file is opened as numbers alone, before the model is loaded, and what an optimizer kept is held
against what is trained.
"""

import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.storage.foreign import open_regular

_FULL_SIZE = ("state1", "state2", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def require_sound_state(checkpoint: Path, step: int) -> None:
    """Raise StudioError where a run cannot go on from what a checkpoint of that step holds beside its adapter."""
    files: dict[str, Callable[[Any], object]] = {
        "optimizer.pt": lambda found: {**found["state"], 0: [*found["param_groups"]]},
        "scheduler.pt": _schedule,
        "scaler.pt": dict,
        "rng_state.pth": _random_states,
    }
    for name, check in files.items():
        if os.path.lexists(path := checkpoint / name):
            os.close(open_regular(path))
            with told(partial(state_failure, path)), safe_globals():
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                check(found)
                _require_finite(found)
    path = checkpoint / "trainer_state.json"
    os.close(open_regular(path))
    with told(partial(state_failure, path)):
        state = TrainerState.load_from_json(str(path))
        if state.global_step != step or not all(isinstance(entry, dict) for entry in state.log_history):
            raise ValueError(f"it is of step {state.global_step!r:.20}, and the checkpoint of step {step}")


def require_state_of(parameters: Iterable[tuple[str, torch.Tensor]], optimizer: Any, checkpoint: Path) -> None:
    """Raise StudioError where what a checkpoint gave an adapter and its optimizer is not for what is trained."""
    with told(partial(state_failure, checkpoint / "optimizer.pt")):
        for name, parameter in parameters:
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(f"the adapter's {name} is no number")
            for key, value in optimizer.state.get(parameter, {}).items():
                if key in _FULL_SIZE and value.shape != parameter.shape:
                    raise ValueError(f"it keeps {tuple(value.shape)} for {name}, which is {tuple(parameter.shape)}")


def state_failure(path: Path, error: Exception) -> StudioError:
    """Return why a run does not go on from a file of a checkpoint. What a pickle would run is never run to see."""
    why = "it is damaged, or not what this program writes"
    if isinstance(error, UnpicklingError) or "mmap can only be used" in str(error):
        why = "it is a pickle that would run code when it is opened, so it is not opened"
    elif type(error) is ValueError:
        why = str(error)
    return StudioError(
        say(
            "The run cannot go on from {name}: {file} is refused, {why}.",
            name=path.parent.name,
            file=path.name,
            why=why,
        ),
        kind=FailureKind.DAMAGED,
        advice=say(
            "Move {name} out of the run's folder: the run then goes on from an earlier checkpoint.",
            name=path.parent.name,
        ),
        detail=f"{path}: {error}",
    )


def _schedule(found: Any) -> None:
    """Raise where a schedule is not what one of transformers keeps: loading puts whatever it says in its place."""
    kinds = {"base_lrs": list, "_last_lr": list, "lr_lambdas": list, "last_epoch": int, "_step_count": int}
    for key, value in found.items():
        if not isinstance(value, kinds.get(key, bool)):
            raise ValueError(f"{key} is {value!r:.40}")
    if not all(isinstance(rate, float) for key in ("base_lrs", "_last_lr") for rate in found[key]):
        raise ValueError("it holds rates that are no numbers")


def _random_states(found: Any) -> None:
    """Raise where states of random numbers are none: asked of generators that nobody uses."""
    random.Random().setstate(found["python"])
    np.random.RandomState().set_state(found["numpy"])
    torch.Generator().set_state(found["cpu"])


def _require_finite(found: Any) -> None:
    for value in _values(found):
        numbers = isinstance(value, torch.Tensor) and value.is_floating_point()
        if (numbers and not bool(torch.isfinite(value).all())) or (isinstance(value, float) and math.isnan(value)):
            raise ValueError("it holds what is no number (NaN)")


def _values(found: Any) -> Iterator[Any]:
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        else:
            yield value
