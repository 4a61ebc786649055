"""trl's Triton kernels for the loss, which only a card takes: run by Triton's interpreter, held to the plain way."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engine.training_run import make_run, run_to_end

Machine = Callable[..., None]
_SETTINGS = ("training.max_steps=2", "training.max_length=48", "quantization.compute_dtype=float32")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install 'triton>=3.9'")
def test_trl_s_kernels_give_the_loss_that_the_processor_gives(
    machine: Machine, tiny_llama: Path, tmp_path: Path
) -> None:
    machine(TRITON_INTERPRET="1")
    on_card = run_to_end(make_run(tmp_path / "card", tiny_llama, *_SETTINGS))
    on_processor = run_to_end(make_run(tmp_path / "processor", tiny_llama, "hardware.gpus=cpu", *_SETTINGS))

    assert on_card.failure is None and on_card.first_evaluation is not None and on_card.evaluation is not None
    assert on_processor.first_evaluation is not None and on_processor.evaluation is not None
    assert on_card.first_evaluation.loss == pytest.approx(on_processor.first_evaluation.loss, rel=1e-5)
    assert on_card.evaluation.loss == pytest.approx(on_processor.evaluation.loss, rel=1e-3)
