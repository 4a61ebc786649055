"""Several ranks train one run: as one process would, with nothing that listens to the world, and without a hang."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.memory.resident import gathered_bytes, weights_bytes
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run.events import Evaluated, Failed, ModelLoaded, StepDone
from qlora_studio.core.run.ranks import VARIABLE
from qlora_studio.jobs.worker_process import WORKER, start_worker
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import follow, make_run, run_to_end, tensors

_SETTINGS = (
    "quantization.compute_dtype=float32",
    "training.max_steps=4",
    "training.gradient_checkpointing=on",
    "evaluation.every_steps=2",
    "hardware.gpus=cpu",
)
_LISTENS = "0A"
_LOOPBACK = "0100007F"


@dataclass
class _Runs:
    """A run by one process, one by two ranks, and one that two began who shared its base out.

    Of these one was killed, and one process went on.
    """

    alone: RunFolder
    together: RunFolder
    sharded: RunFolder
    listening: set[str]  # addresses, while both trained
    failed: Failed
    seconds: float  # from the kill to the end
    left: list[psutil.Process]


@pytest.fixture(scope="module")
def runs(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Runs]:
    folder = tmp_path_factory.mktemp("ranks")
    alone = make_run(folder / "alone", tiny_llama, *_SETTINGS)
    together = make_run(folder / "together", tiny_llama, *_SETTINGS)
    sharded = make_run(folder / "sharded", tiny_llama, *_SETTINGS, "hardware.sharding=on")
    with pytest.MonkeyPatch.context() as patch:
        run_to_end(alone)
        patch.setenv(VARIABLE, "cpu,cpu")
        run_to_end(together)
        worker = start_worker(sharded, WORKER)
        follow(worker, until=lambda event: event.type == "checkpoint_saved")
        ranks = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        listening = set().union(*(_listening(rank.pid) for rank in ranks))
        killed = time.monotonic()
        ranks[1].kill()
        *_, failed = follow(worker)
        seconds = time.monotonic() - killed
        patch.delenv(VARIABLE)
        assert isinstance(failed, Failed)
        run_to_end(sharded)
    yield _Runs(alone, together, sharded, listening, failed, seconds, [rank for rank in ranks if rank.is_running()])


@pytest.mark.parametrize("way", ["together", "sharded"])
def test_two_ranks_and_then_one_learn_what_one_process_learns(runs: _Runs, way: str) -> None:
    run: RunFolder = getattr(runs, way)
    assert _losses(run) == pytest.approx(_losses(runs.alone), rel=1e-3)
    assert len(_losses(runs.alone)) == 7
    assert torch.cosine_similarity(_adapter(runs.alone), _adapter(run), dim=0) >= 0.9999


def test_ranks_that_share_a_base_out_have_half_of_its_packed_weights_each(runs: _Runs, tiny_llama: Path) -> None:
    (whole,), (half, again) = (
        [event for event in run.events() if isinstance(event, ModelLoaded)] for run in (runs.alone, runs.sharded)
    )
    packed = sum(
        len(item) // 2 // 2 for name, item in tensors(tiny_llama / "model.safetensors").items() if "_proj" in name
    )
    assert whole.footprint_bytes - half.footprint_bytes == packed // 2
    assert whole.footprint_bytes - half.footprint_bytes == _saved_by_estimate(runs.sharded.config(), tiny_llama)
    assert (half.parameters, half.trainable) == (whole.parameters, whole.trainable)
    assert again.footprint_bytes == whole.footprint_bytes


def test_a_step_is_told_as_a_whole_and_once(runs: _Runs) -> None:
    tokens = [[event.tokens for event in _steps(run)][:2] for run in (runs.alone, runs.together, runs.sharded)]
    assert tokens[0] == tokens[1] == tokens[2]


def test_ranks_listen_on_loopback_alone(runs: _Runs) -> None:
    """Gloo's ranks find each other by a file, and speak by TCP: that they listen on every interface is its default."""
    assert runs.listening == {_LOOPBACK}


def test_a_rank_that_dies_ends_the_run_in_words_at_once(runs: _Runs) -> None:
    assert runs.failed.kind is FailureKind.WORKER_DIED
    assert runs.failed.message.startswith("Worker 2 of the run is gone: the worker was ended by SIGKILL: ")
    assert "resumed from its last safe checkpoint" in runs.failed.advice
    assert runs.seconds < 60
    assert not runs.left


def _saved_by_estimate(config: RunConfig, base: Path) -> int:
    """What of the weights is elsewhere, beside what is gathered while a layer works."""
    shape = shape_from_config(read_config(base))
    cut = setup_for(config.with_value("hardware.gpus", "0,1"), shape)
    return weights_bytes(shape, replace(cut, cards=1)) - weights_bytes(shape, cut) + gathered_bytes(shape, cut)


def _losses(run: RunFolder) -> dict[str, float | None]:
    """What was told of each step and evaluation, the last time that it was taken."""
    told = (event for event in run.events() if isinstance(event, StepDone | Evaluated))
    return {f"{event.type} {event.step}": event.loss for event in told}


def _steps(run: RunFolder) -> list[StepDone]:
    return [event for event in run.events() if isinstance(event, StepDone)]


def _adapter(run: RunFolder) -> torch.Tensor:
    saved = load_file(run.adapter_path / "adapter_model.safetensors")
    return torch.cat([saved[name].flatten().double() for name in sorted(saved)])


def _listening(pid: int) -> set[str]:
    """Return the addresses, as the kernel's tables write them, on which a process listens."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    sockets = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == _LISTENS and row[9] in sockets}
