"""bitsandbytes' library ends the process by C's exit: the run goes on in a new one, from its last safe checkpoint."""

from collections.abc import Callable
from pathlib import Path

from qlora_studio.core.run.activity import Phase
from tests.engine.training_run import make_run, run_to_end


def test_a_run_whose_worker_bitsandbytes_ended_goes_on(
    machine: Callable[..., None], tiny_llama: Path, tmp_path: Path
) -> None:
    """It ends in the sixth batch, which is of the third step: the checkpoint of the second is safe."""
    machine(REHEARSAL_FAULTS="exit@transformers.trainer:Trainer.training_step#6")
    run = make_run(tmp_path / "runs", tiny_llama, "training.max_steps=4", "evaluation.every_steps=0")

    state = run_to_end(run)

    assert state.phase is Phase.FINISHED, state.failure
    (recovery,) = state.recoveries
    assert (recovery.kind, recovery.step) == ("card_lost", 2)
    assert state.resumptions == (2,)
    assert "ops.cu" in run.log_path.read_text("utf-8")
