"""The whole program on a card, in this order: what matters most comes first, since the time is short."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import Event, MemoryMeasured, ModelLoaded, Paused, Probed, Recovering, StepDone
from qlora_studio.core.run.reports import RunEstimateReported
from qlora_studio.engine.faults import is_out_of_memory
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import final_weights, follow, make_run, of_type
from tests.gpu.conftest import Fact
from tests.gpu.results import Results

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(400)]
_CALIBRATION_SECONDS, _KEPT_SECONDS = 110, 130  # for calibration, and for what comes after it


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def model(results: Results, request: pytest.FixtureRequest) -> Path:
    """The real small model; on a rehearsed card, whose kernels are the processor's, a tiny one."""
    folder: Path = request.getfixturevalue("tiny_llama" if results.is_rehearsed else "smollm_folder")
    return folder


@pytest.fixture(scope="module")
def straight(runs: Path, model: Path) -> tuple[RunFolder, list[Event]]:
    """A run from its first step to its end, and what it told."""
    folder = make_run(runs / "straight", model)
    return folder, follow(start_worker(folder))


def test_the_doctor_finds_all_that_training_needs(fact: Fact) -> None:
    found = studio("doctor")
    fact(checks=[check["name"] + ": " + check["level"] for check in found["checks"]])
    assert found["ok"]


def test_the_demo_learns(fact: Fact, runs: Path, results: Results) -> None:
    if results.is_rehearsed:
        pytest.skip("the demo's model takes minutes on a processor")
    found = studio("demo", "--no-window", "--runs", str(runs / "demo"))
    fact(**{key: found[key] for key in ("eval_loss_before", "eval_loss_after", "seconds")})
    assert found["eval_loss_after"] < found["eval_loss_before"]


def test_a_paused_run_goes_on_to_the_same_adapter(
    fact: Fact, runs: Path, model: Path, straight: tuple[RunFolder, list[Event]], results: Results
) -> None:
    """Bit by bit, where the card's kernels add in the same order each time; that is what is to be found out."""
    folder = make_run(runs / "paused", model)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone) and event.step >= 3)
    folder.send(Pause())
    assert isinstance(follow(process)[-1], Paused)
    follow(start_worker(folder))
    assert folder.state().phase is Phase.FINISHED
    is_equal = final_weights(folder) == final_weights(straight[0])
    far = _distance(folder, straight[0])
    fact(bit_equal=is_equal, relative_distance=far)
    assert far < 0.05
    assert is_equal or not results.is_rehearsed


def test_what_is_exported_is_verified(fact: Fact, straight: tuple[RunFolder, list[Event]]) -> None:
    exported = studio("export", str(straight[0].path), "--to", "safetensors,gguf:q8_0")
    fact(seconds=exported["seconds"], verified=exported["verified"], checks=exported["checks"])
    assert exported["verified"]
    for folder in sorted(straight[0].exports_path.iterdir()):
        found = studio("verify", str(folder))
        fact(verify=folder.name, **{key: found.get(key) for key in ("verified", "checks", "way", "tokens")})
        assert found["verified"]


def test_every_model_of_the_run_answers_in_a_chat(fact: Fact, straight: tuple[RunFolder, list[Event]]) -> None:
    variants = "base,tuned,merged,gguf"
    found = studio(
        "chat", str(straight[0].path), "--prompt", "What is 2 + 2?", "--variant", variants, "--max-new-tokens", "16"
    )
    fact(answers=found["answers"], ways=found["ways"])
    assert set(found["answers"]) == set(variants.split(","))


def test_a_run_tells_its_estimate_its_probe_and_what_it_took(
    fact: Fact, straight: tuple[RunFolder, list[Event]]
) -> None:
    events = straight[1]
    (estimate,) = [event.report for event in events if isinstance(event, RunEstimateReported)]
    (probed,) = [event for event in events if isinstance(event, Probed)]
    phases = {event.phase: event.allocated_bytes for event in events if isinstance(event, MemoryMeasured)}
    fact(
        estimate=estimate.model_dump(include={"level", "total_bytes", "allocated_bytes", "reserved_bytes"}),
        probed=probed.model_dump(include={"allocated_bytes", "reserved_bytes", "process_bytes", "context_bytes"}),
        phases=phases,
    )
    assert estimate.total_bytes > 0 < probed.allocated_bytes
    assert phases


def test_the_estimate_is_held_against_steps_of_real_shapes(fact: Fact, results: Results) -> None:
    seconds = min(_CALIBRATION_SECONDS, results.seconds_left - _KEPT_SECONDS)
    if seconds < 20:
        pytest.skip("no time left for it")
    done = child("tests.gpu.calibrate_vram", "--seconds", str(int(seconds)), *["--dry-run"] * results.is_rehearsed)
    fact(table=done.stdout.splitlines()[-32:])
    assert done.returncode == 0, done.stderr[-2000:]


def test_memory_that_is_out_is_known_as_that(fact: Fact, results: Results) -> None:
    if results.is_rehearsed and "REHEARSAL_BYTES" not in os.environ:
        pytest.skip("a rehearsed card's memory is this computer's: it is not to be filled")
    told = fault("memory")
    fact(**told)
    assert told["kind"] == FailureKind.OUT_OF_MEMORY
    assert "on the card" in told["message"]


def test_a_run_beside_another_program_that_fills_the_card_goes_on_with_half_the_batch_or_says_why_not(
    fact: Fact, results: Results, runs: Path, model: Path
) -> None:
    if results.is_rehearsed:
        pytest.skip("processes on a rehearsed card do not share its memory")
    settings = ("training.batch_size=64", "training.gradient_accumulation=1", "training.max_length=1024")
    folder = make_run(runs / "crowded", model, *settings, "data.duplicates=keep", rows=128)
    with balloon(free=3 << 30):
        events = follow(start_worker(folder))
    state = folder.state()
    recoveries = [(event.kind, event.batch_size) for event in events if isinstance(event, Recovering)]
    fact(phase=state.phase, recoveries=recoveries, failure=state.failure and state.failure.message)
    kinds = {FailureKind.OUT_OF_MEMORY, FailureKind.DOES_NOT_FIT}
    assert state.phase is Phase.FINISHED or (state.failure is not None and state.failure.kind in kinds)


def test_bitsandbytes_ends_the_process_where_managed_memory_is_refused_and_says_why(
    fact: Fact, results: Results
) -> None:
    if results.is_rehearsed:
        pytest.skip("a rehearsed card has no managed memory")
    done = child("tests.gpu.fault", "managed")
    fact(exit_code=done.returncode, said=done.stderr[-300:], told=done.stdout[-300:])
    assert done.returncode == 1
    assert is_out_of_memory(RuntimeError(done.stderr + done.stdout))


def test_a_kernel_that_fails_is_known_as_a_card_that_was_lost(fact: Fact, results: Results) -> None:
    if results.is_rehearsed:
        pytest.skip("the processor's kernels do not fail as a card's do")
    told = fault("kernel")
    fact(**told)
    assert told["kind"] == FailureKind.CARD_LOST


@pytest.mark.parametrize("checkpointing", ["on", "off", "auto"])
def test_tokens_a_second(fact: Fact, runs: Path, model: Path, checkpointing: str) -> None:
    settings = (f"training.gradient_checkpointing={checkpointing}", "evaluation.every_steps=1000")
    folder = make_run(runs / f"speed-{checkpointing}", model, *settings, "training.batch_size=8", rows=160)
    steps = [event for event in follow(start_worker(folder)) if isinstance(event, StepDone)]
    rate = median(event.tokens_per_second for event in steps[1:])
    fact(tokens_per_second=rate, peak_bytes=max(event.peak_bytes for event in steps), steps=len(steps))
    assert rate > 0


def test_a_run_that_is_forced_to_fp16_learns(fact: Fact, runs: Path, model: Path) -> None:
    folder = make_run(runs / "fp16", model, "quantization.compute_dtype=float16")
    events = follow(start_worker(folder))
    (loaded,) = [event for event in events if isinstance(event, ModelLoaded)]
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    fact(compute_dtype=loaded.compute_dtype, losses=losses)
    assert loaded.compute_dtype == "float16"
    assert folder.state().phase is Phase.FINISHED
    assert all(loss is not None for loss in losses)
    assert not of_type(events, "failed")


def test_predicted_rates_are_held_against_steps_of_real_shapes(fact: Fact, results: Results) -> None:
    """What is off is told and no failure: the numbers are what the next prediction is made from."""
    if results.seconds_left < 30:
        pytest.skip("no time left for it")
    seconds = min(_CALIBRATION_SECONDS, int(results.seconds_left - 20)) if not results.is_rehearsed else 60
    done = child("tests.gpu.check_rates", "--seconds", str(seconds), *["--dry-run"] * results.is_rehearsed)
    fact(table=done.stdout.splitlines()[-16:], within=done.returncode == 0)
    assert "tokens/s" in done.stdout, done.stderr[-2000:]


def studio(*arguments: str) -> Any:
    """Return what a command prints with --json; what it ends with is part of it."""
    done = child("qlora_studio", *arguments, "--json")
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert "error" not in found, found
    return found


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


def fault(kind: str) -> Any:
    done = child("tests.gpu.fault", kind)
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def balloon(*, free: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.gpu.balloon", str(free)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield


def _distance(one: RunFolder, other: RunFolder) -> float:
    """Return how far two final adapters are, of what they weigh."""
    first, second = (load_file(run.adapter_path / "adapter_model.safetensors") for run in (one, other))
    apart = sum(float((first[name].float() - second[name].float()).square().sum()) for name in second)
    weight = sum(float(tensor.float().square().sum()) for tensor in second.values())
    return float(torch.tensor(apart / weight).sqrt())
