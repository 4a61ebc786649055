"""A training run from config to adapter, in a real worker; disturbed in any way, it ends as if undisturbed."""

import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import AcceptChanges, EvaluateNow, LowerRate, Pause, SaveCheckpoint, Stop
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, Event, Failed, Paused, Recovering, StepDone, Warned
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.durable import sha256_of
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import final_weights, follow, make_run, of_type, run_to_end, tensors
from tests.trusted import trusted

_INPUTS_BEFORE: dict[str, str] = {}


@pytest.fixture(scope="module")
def undisturbed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nobody disturbed, to compare with."""
    folder = make_run(tmp_path_factory.mktemp("undisturbed"), tiny_llama)
    _INPUTS_BEFORE.update(_inputs(folder))
    assert run_to_end(folder).phase is Phase.FINISHED, folder.state().failure
    return folder


def _inputs(folder: RunFolder) -> dict[str, str]:
    """Return the hashes of a run's dataset and of every file of its base."""
    config = folder.config()
    files = [Path(config.data.path), *(item for item in Path(config.model.source).iterdir() if item.is_file())]
    return {file.name: sha256_of(file) for file in files}


def test_a_run_leaves_its_dataset_and_its_base_as_they_were(undisturbed: RunFolder) -> None:
    assert len(_INPUTS_BEFORE) > 3
    assert _inputs(undisturbed) == _INPUTS_BEFORE


def _at_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepDone) and event.step == step


def test_a_run_learns_and_says_what_it_does(undisturbed: RunFolder) -> None:
    events = list(undisturbed.events())
    state = undisturbed.state()
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 10))
    assert state.total_steps == 9
    assert state.model is not None
    assert state.model.quantization == "nf4"
    assert "lm_head" not in state.model.target_modules
    assert state.model.rows_end_to_end
    assert state.dataset is not None
    assert (state.dataset.training_rows, state.dataset.evaluation_rows) == (36, 4)
    assert state.first_evaluation is not None
    assert state.evaluation is not None
    assert state.evaluation.loss is not None
    assert state.first_evaluation.loss is not None
    assert state.evaluation.loss < state.first_evaluation.loss - 0.1
    assert state.evaluation.perplexity == pytest.approx(math.exp(state.evaluation.loss))
    assert all(event.loss and event.tokens and event.process_bytes for event in steps)
    assert [event.type for event in events].count("finished") == 1


def test_the_time_left_counts_what_is_still_to_be_measured_and_made_safe(undisturbed: RunFolder) -> None:
    events = list(undisturbed.events())
    left = [event.eta_seconds or 0.0 for event in events if isinstance(event, StepDone)]
    measured = {event.step: event.seconds for event in events if isinstance(event, Evaluated)}
    saved = {event.step: event.seconds for event in events if isinstance(event, CheckpointSaved)}
    assert left[0] >= 3 * measured[0]  # at steps 4 and 8, and at the end
    assert left[-1] >= measured[8] + saved[8]


def test_a_worker_killed_in_mid_run_is_resumed_bit_for_bit(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder
) -> None:
    folder = make_run(tmp_path, tiny_llama)
    process = start_worker(folder)
    follow(process, _at_step(5))
    process.kill()
    process.wait(10)
    assert follow(process)[-1].type == "failed"
    state = run_to_end(folder)
    assert state.phase is Phase.FINISHED
    assert state.resumptions == (4,)
    assert final_weights(folder) == final_weights(undisturbed)


def test_a_paused_run_frees_its_worker_and_goes_on_bit_for_bit(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder
) -> None:
    folder = make_run(tmp_path, tiny_llama)
    process = start_worker(folder)
    follow(process, _at_step(3))
    folder.send(Pause())
    ending = follow(process)[-1]
    assert isinstance(ending, Paused)
    assert process.poll() == 0
    assert folder.state().phase is Phase.PAUSED
    assert CheckpointFolder(folder.checkpoints_path).path.joinpath(ending.checkpoint).is_dir()
    state = run_to_end(folder)
    assert state.resumptions == (ending.step,)
    assert final_weights(folder) == final_weights(undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot freeze a process")
def test_a_stopped_worker_process_goes_on_as_if_nothing_had_been(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder
) -> None:
    folder = make_run(tmp_path, tiny_llama)
    process = start_worker(folder)
    follow(process, _at_step(2))
    worker = folder.state().pid
    os.kill(worker, signal.SIGSTOP)
    assert process.poll() is None
    assert folder.is_busy()
    os.kill(worker, signal.SIGCONT)
    assert follow(process)[-1].type == "finished"
    assert final_weights(folder) == final_weights(undisturbed)


@pytest.mark.slow
def test_stop_and_save_keeps_what_was_learned_and_stop_now_keeps_the_checkpoints(
    tiny_llama: Path, tmp_path: Path
) -> None:
    saved, dropped = (make_run(tmp_path / name, tiny_llama) for name in ("saved", "dropped"))
    for folder, save in ((saved, True), (dropped, False)):
        process = start_worker(folder)
        follow(process, _at_step(3))
        folder.send(Stop(save=save))
        follow(process)
        assert folder.state().phase is Phase.STOPPED
    assert (saved.adapter_path / "adapter_model.safetensors").is_file()
    assert not dropped.adapter_path.exists()
    assert [item.step for item in CheckpointFolder(dropped.checkpoints_path).safe()] == [2]


def test_save_now_and_evaluate_now_are_obeyed(tiny_llama: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path, tiny_llama, "checkpoint.every_steps=0", "evaluation.every_steps=0")
    process = start_worker(folder)
    follow(process, _at_step(1))
    folder.send(SaveCheckpoint())
    folder.send(EvaluateNow())
    events = follow(process)
    total = folder.state().total_steps
    assert any(isinstance(event, CheckpointSaved) and event.step < total for event in events)
    assert any(isinstance(event, Evaluated) and 0 < event.step < total for event in events)


def test_without_held_out_rows_evaluate_now_is_refused_and_the_run_goes_on(tiny_llama: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path, tiny_llama, "data.evaluation_share=0", "evaluation.every_steps=1")
    process = start_worker(folder)
    follow(process, _at_step(1))
    folder.send(EvaluateNow())
    follow(process)
    state = folder.state()
    assert state.phase is Phase.FINISHED, state.failure
    assert state.evaluation is None
    assert any("no held-out rows" in warning.message for warning in state.warnings)


def test_out_of_memory_halves_the_batch_in_a_new_process_and_keeps_the_trajectory(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "oom@6>1")
    settings = ("lora.dropout=0", "training.gradient_checkpointing=off")
    folder, plain = make_run(tmp_path, tiny_llama, *settings), make_run(tmp_path / "plain", tiny_llama, *settings)
    state = run_to_end(folder)
    assert state.phase is Phase.FINISHED, state.failure
    (recovery,) = state.recoveries
    assert (recovery.batch_size, recovery.gradient_accumulation) == (1, 4)
    monkeypatch.delenv("QLORA_STUDIO_FAULTS")
    run_to_end(plain)
    halved, whole = _losses(folder), _losses(plain)
    assert halved.keys() == whole.keys()
    assert all(abs(halved[step] - whole[step]) < 0.02 for step in whole)


@pytest.mark.slow
def test_memory_that_never_suffices_is_tried_three_times_and_then_told(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "oom@1")
    folder = make_run(tmp_path, tiny_llama, "training.batch_size=4", "training.gradient_accumulation=1")
    state = run_to_end(folder)
    assert [(event.batch_size, event.checkpoints_all) for event in state.recoveries] == [
        (4, True),
        (2, True),
        (1, True),
    ]
    assert state.failure is not None
    assert state.failure.kind == "out_of_memory"
    assert "max length" in state.failure.advice


@pytest.mark.slow
def test_a_lost_card_is_tried_once_more_and_then_explained(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "lost@3")
    folder = make_run(tmp_path, tiny_llama)
    state = run_to_end(folder)
    assert [event.kind for event in state.recoveries] == ["card_lost"]
    assert [item.step for item in CheckpointFolder(folder.checkpoints_path).safe()] == [2], "saved from a lost card"
    assert state.failure is not None
    assert state.failure.kind == "card_lost"
    assert "Resume" in state.failure.advice


@pytest.mark.skipif(sys.platform != "linux", reason="memory is mapped as it is needed on Linux alone")
def test_faults_that_strike_once_cost_a_run_no_bit(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that cannot map memory, which strikes wherever it is to, and a library that calls C's exit."""
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "mapping@1 exit@4")
    monkeypatch.setenv("QLORA_STUDIO_FAULTS_ONCE", str(tmp_path))
    folder = make_run(tmp_path, tiny_llama)
    process = start_worker(folder)
    follow(process)
    state = folder.state()
    assert [event.kind for event in state.recoveries] == ["mapping_failed", "worker_died"]
    assert state.resumptions == (2,)
    assert (state.phase, process.poll()) == (Phase.FINISHED, 0)
    assert final_weights(folder) == final_weights(undisturbed)


@pytest.mark.slow
def test_an_evaluation_without_memory_is_skipped_and_training_goes_on(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "oom-evaluation@4")
    folder = make_run(tmp_path, tiny_llama)
    assert run_to_end(folder).phase is Phase.FINISHED
    assert "evaluation_skipped" in [event.kind for event in folder.events() if isinstance(event, Warned)]
    assert final_weights(folder) == final_weights(undisturbed)


@pytest.mark.slow
def test_a_nan_takes_no_step_names_its_rows_and_leaves_the_last_good_state(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "nan@5")
    folder = make_run(tmp_path, tiny_llama)
    state = run_to_end(folder)
    assert state.failure is not None
    assert state.failure.kind == "non_finite_loss"
    assert "rows of the dataset" in state.failure.advice
    assert [item.step for item in CheckpointFolder(folder.checkpoints_path).safe()] == [4, 2]
    good = "checkpoint-4/adapter_model.safetensors"
    assert tensors(folder.checkpoints_path / good) == tensors(undisturbed.checkpoints_path / good)
    monkeypatch.delenv("QLORA_STUDIO_FAULTS")
    gentler = trusted(shutil.copytree(folder.path, tmp_path / "gentler"))
    assert run_to_end(folder).phase is Phase.FINISHED
    assert final_weights(folder) == final_weights(undisturbed)
    _check_half_the_rate(gentler, folder)


def _check_half_the_rate(gentler: RunFolder, plain: RunFolder) -> None:
    """The same run, rolled back and resumed with half the rate, now and in every later session."""
    process = start_worker(gentler, initial_commands=[LowerRate(factor=0.5)])
    follow(process, _at_step(7))
    process.kill()
    process.wait(10)
    state = run_to_end(gentler)
    assert state.phase is Phase.FINISHED
    assert [(event.step, event.scale) for event in state.rates] == [(4, 0.5)]
    assert state.resumptions == (4, 6)
    rates = {event.step: event.learning_rate for event in plain.events() if isinstance(event, StepDone)}
    halved = {event.step: event.learning_rate for event in gentler.events() if isinstance(event, StepDone)}
    assert all(halved[step] == pytest.approx(rates[step] / (2 if step > 4 else 1)) for step in range(1, 10))
    assert final_weights(gentler) != final_weights(plain)


def test_a_flipped_bit_in_the_newest_checkpoint_is_noticed_and_the_one_before_used(
    tiny_llama: Path, tmp_path: Path, undisturbed: RunFolder
) -> None:
    folder = _half_done(tiny_llama, tmp_path)
    victim = folder.checkpoints_path / "checkpoint-4" / "optimizer.pt"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    state = run_to_end(folder)
    assert state.resumptions == (2,)
    assert any(event.kind == "damaged_checkpoint" for event in state.warnings)
    assert final_weights(folder) == final_weights(undisturbed)


@pytest.mark.slow
def test_another_base_or_another_dataset_is_refused_on_resume_until_the_user_accepts_it(
    tiny_llama: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_llama, model)
    folder = _half_done(model, tmp_path)
    data = Path(folder.config().data.path)
    rows = data.read_text("utf-8")
    data.write_text(rows.replace("Log: 3 ", "Log: 9 "), encoding="utf-8")
    assert _failure(run_to_end(folder).failure) == ("fingerprint_mismatch", "dataset")
    data.write_text(rows, encoding="utf-8")
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    before = weights.stat()
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # a bit that flips on a disk changes no time
    assert _failure(run_to_end(folder).failure) == ("fingerprint_mismatch", "base model")
    follow(start_worker(folder, initial_commands=[AcceptChanges()]))
    state = folder.state()
    assert state.phase is Phase.FINISHED
    assert [(event.what, event.step, event.changes) for event in state.accepted] == [
        ("base", 4, ["model.safetensors has other content"])
    ]


def test_training_ends_early_when_the_held_out_loss_stops_falling(tiny_llama: Path, tmp_path: Path) -> None:
    settings = ("evaluation.every_steps=1", "evaluation.patience=2", "training.learning_rate=1e-12")
    state = run_to_end(make_run(tmp_path, tiny_llama, *settings))
    assert state.phase is Phase.FINISHED
    assert state.stopped_early is not None
    assert state.stopped_early.step == state.step < 9


@pytest.mark.slow
def test_a_run_that_took_all_its_steps_did_not_stop_early(tiny_llama: Path, tmp_path: Path) -> None:
    settings = ("evaluation.every_steps=1", "evaluation.patience=2", "training.learning_rate=1e-12")
    state = run_to_end(make_run(tmp_path, tiny_llama, *settings, "training.max_steps=2"))
    assert (state.phase, state.step, state.stopped_early) == (Phase.FINISHED, 2, None)


def _half_done(model: Path, runs: Path) -> RunFolder:
    folder = make_run(runs, model)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, CheckpointSaved) and event.step == 4)
    process.kill()
    process.wait(10)
    return folder


def _losses(folder: RunFolder) -> dict[int, float]:
    return {event.step: event.loss or math.nan for event in folder.events() if isinstance(event, StepDone)}


def _failure(failed: Failed | None) -> tuple[str, str]:
    assert failed is not None
    return failed.kind, "dataset" if "dataset" in failed.message else "base model"


__all__ = ["Event", "Recovering", "of_type"]
