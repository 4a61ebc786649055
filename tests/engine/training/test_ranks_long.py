"""Two ranks over twenty steps, with packs, commands and faults, and what travels between them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.memory.resident import travelling_bytes
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run.commands import EvaluateNow, Pause, SaveCheckpoint
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, Paused, Recovering, StepDone
from qlora_studio.core.run.ranks import VARIABLE
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import make_base
from tests.engine.training_run import follow, make_run, run_to_end, tensors

pytestmark = pytest.mark.slow
_SETTINGS = (
    "quantization.compute_dtype=float32",
    "training.gradient_accumulation=4",
    "training.gradient_checkpointing=on",
    "training.epochs=100",
    "hardware.gpus=cpu",
)
_SHARED = ["llama", "llama_tied", "gemma2", "gpt2", "phi3", "gemma4_wrapper", "qwen3_5_wrapper"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the runs that are started from now on be trained by two ranks."""
    return lambda: monkeypatch.setenv(VARIABLE, "cpu,cpu")


@pytest.mark.parametrize("sharding", ["off", "on"])
@pytest.mark.parametrize("packing", ["false", "true"])
def test_twenty_steps_of_two_ranks_are_those_of_one_process(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], packing: str, sharding: str
) -> None:
    """With evaluations between the steps, and epochs whose last step has fewer batches than there are shares."""
    more = (f"training.packing={packing}", "training.max_steps=20", f"hardware.sharding={sharding}")
    alone = make_run(tmp_path / "alone", tiny_llama, *_SETTINGS, *more, rows=38)
    run_to_end(alone)
    two()
    together = make_run(tmp_path / "together", tiny_llama, *_SETTINGS, *more, rows=38)
    assert run_to_end(together).failure is None
    for kind in (StepDone, Evaluated):
        assert len(_losses(alone, kind)) == (20 if kind is StepDone else 6)
        assert _losses(together, kind) == pytest.approx(_losses(alone, kind), rel=1e-3)
    assert torch.cosine_similarity(_adapter(alone), _adapter(together), dim=0) >= 0.9999


def test_what_travels_in_a_step_is_four_bytes_for_each_trained_number(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = tmp_path / "counted"
    counted.mkdir()
    monkeypatch.setenv("COUNTED", str(counted))
    hook = Path(__file__).parent / "counting"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]))
    two()
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, "training.max_steps=3", "evaluation.every_steps=0")
    state = run_to_end(run)
    assert state.model is not None
    once = 4 * state.model.trainable
    ranks = [file.read_text().split() for file in counted.iterdir()]
    assert len(ranks) == 2
    for words in ranks:
        sizes = [int(size) for kind, size in zip(words[::2], words[1::2], strict=True) if kind == "torch.float32"]
        assert sum(sizes) == once + 3 * once, "the adapters before the first step, and the gradients of three"
        rest = sum(int(size) for kind, size in zip(words[::2], words[1::2], strict=True) if kind != "torch.float32")
        assert rest < once / 50


@pytest.mark.timeout(900)
def test_a_shared_base_gives_the_loss_and_gradients_of_a_whole_one_after_evaluations_too(tmp_path: Path) -> None:
    """Tied, transposed, fused or soft-capped as they are; with linear attention, and with layers that share keys."""
    bases = [str(make_base(tmp_path / family, family)) for family in _SHARED]
    program = [sys.executable, "-m", "tests.engine.training.shards_beside_whole", str(tmp_path / "meeting")]
    ranks = [
        subprocess.Popen([*program, str(rank), *bases], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for rank in ranks:
        output, errors = rank.communicate(timeout=600)
        assert output.split() == _SHARED, errors[-3000:]


def test_a_card_gathers_every_packed_weight_on_the_way_there_and_on_the_way_back(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before the first step for rows that are tried: of a pack there and back, one there, one there and back."""
    counted = tmp_path / "counted"
    counted.mkdir()
    monkeypatch.setenv("COUNTED", str(counted))
    hook = Path(__file__).parent / "counting"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]))
    two()
    more = ("training.gradient_accumulation=2", "training.max_steps=3", "data.evaluation_share=0")
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, *more, "hardware.sharding=on")
    assert run_to_end(run).failure is None
    weights = tensors(tiny_llama / "model.safetensors")
    packed = sum(len(item) // 4 for name, item in weights.items() if "_proj" in name)  # of 16 bits to 4
    for file in counted.iterdir():
        words = file.read_text().split()
        sizes = [int(size) for kind, size in zip(words[::2], words[1::2], strict=True) if kind == "gathered"]
        in_vain = sum(sizes) - (5 + 3 * 2) * packed  # after rows without a way back FSDP2 fetches one layer more
        assert in_vain in (0, packed // 2)
        assert travelling_bytes(shape_from_config(read_config(tiny_llama)), 2) == packed // 2  # the other rank's half


@pytest.mark.parametrize("sharding", ["off", "on"])
def test_commands_are_obeyed_by_all_ranks_and_a_paused_run_goes_on_by_two(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], sharding: str
) -> None:
    settings = (
        *_SETTINGS,
        f"hardware.sharding={sharding}",
        "training.max_steps=12",
        "evaluation.every_steps=0",
        "checkpoint.every_steps=0",
    )
    alone = make_run(tmp_path / "alone", tiny_llama, *settings)
    run_to_end(alone)
    two()
    together = make_run(tmp_path / "together", tiny_llama, *settings)
    worker = start_worker(together)
    follow(worker, until=lambda event: event.type == "step_done")
    together.send(EvaluateNow())
    together.send(SaveCheckpoint())
    events = follow(worker, until=lambda event: isinstance(event, CheckpointSaved))
    assert any(isinstance(event, Evaluated) for event in events)
    together.send(Pause())
    *_, paused = follow(worker)
    assert isinstance(paused, Paused)
    assert paused.step < 12
    assert run_to_end(together).failure is None
    assert _losses(together, StepDone) == pytest.approx(_losses(alone, StepDone), rel=1e-3)
    assert torch.cosine_similarity(_adapter(alone), _adapter(together), dim=0) >= 0.9999


def test_a_rank_that_is_killed_is_begun_anew_with_the_worker(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None]
) -> None:
    two()
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, "training.max_steps=6")
    worker = start_worker(run)
    follow(worker, until=lambda event: event.type == "checkpoint_saved")
    supervisor = psutil.Process(worker.pid)
    next(child for child in supervisor.children(recursive=True) if child.cmdline()[-1] == "rank").kill()
    events = follow(worker)
    (recovering,) = [event for event in events if isinstance(event, Recovering)]
    assert recovering.kind is FailureKind.WORKER_DIED
    assert recovering.message.startswith("Worker 2 of the run is gone: the worker was ended by SIGKILL")
    assert recovering.message.endswith("the run goes on from its last safe checkpoint.")
    assert run.state().failure is None
    assert [event.step for event in _last(run, StepDone)] == [1, 2, 3, 4, 5, 6]


def test_a_step_that_finds_no_memory_has_all_ranks_take_half_the_batch(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two()
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "oom@3>1 oom-evaluation@4>0")
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, "training.max_steps=5", "evaluation.every_steps=4")
    state = run_to_end(run)
    assert state.failure is None
    assert [(event.batch_size, event.gradient_accumulation) for event in state.recoveries] == [(1, 8)]
    assert any(event.kind == "evaluation_skipped" for event in state.warnings)


def test_an_evaluation_that_finds_no_memory_has_ranks_that_share_a_base_begin_anew_with_half_the_batch(
    tiny_llama: Path, tmp_path: Path, two: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that skipped it would leave the other waiting within a layer."""
    two()
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "oom-evaluation@2>1")
    more = ("training.max_steps=3", "evaluation.every_steps=2", "checkpoint.every_steps=1", "hardware.sharding=on")
    state = run_to_end(make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, *more))
    assert state.failure is None
    assert [(event.batch_size, event.gradient_accumulation) for event in state.recoveries] == [(1, 8)]


def test_a_worker_that_waits_for_ever_for_a_rank_that_is_gone_ends_and_says_why(tmp_path: Path) -> None:
    """As a card does, which never comes back from what it was given."""
    waits = """
        import sys, time
        from pathlib import Path
        from qlora_studio.engine.ranks import processes
        from qlora_studio.engine.ranks.machines import OtherMachines
        processes._STUCK_SECONDS = 0.1
        others = processes.RankProcesses(["cpu", "cpu"], Path(sys.argv[1]) / "ranks", OtherMachines(None))
        others.watch()
        others._processes[0].kill()
        time.sleep(100)
    """
    program = [sys.executable, "-c", dedent(waits), str(tmp_path)]
    ended = subprocess.run(program, stderr=subprocess.PIPE, text=True, timeout=90, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Worker 2 of the run is gone: the worker was ended by SIGKILL")


def _last(run: RunFolder, kind: type[StepDone | Evaluated]) -> list[Any]:
    """Return what was told of each step, the last time that it was taken."""
    told: dict[int, Any] = {event.step: event for event in run.events() if isinstance(event, kind)}
    return [told[step] for step in sorted(told)]


def _losses(run: RunFolder, kind: type[StepDone | Evaluated]) -> list[float | None]:
    return [event.loss for event in _last(run, kind)]


def _adapter(run: RunFolder) -> torch.Tensor:
    saved = load_file(run.adapter_path / "adapter_model.safetensors")
    return torch.cat([saved[name].flatten().double() for name in sorted(saved)])
