"""Mixtures of experts with the defaults: trained as plain trl trains them, and from Start to a verified export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed
from trl import SFTTrainer

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Evaluated, StepDone
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.reports import VerificationReported
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.data.collator import collator
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.adapter import load_tuned
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.generation import answer
from qlora_studio.engine.training.setup import arguments, build_trainer
from tests.engine.mixtures import EACH, make_mixture
from tests.engine.training_run import make_run, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_SHORT = ("training.max_steps=2", "checkpoint.every_steps=0", "evaluation.every_steps=0")


@pytest.mark.parametrize("family", EACH)
def test_a_mixture_learns_what_plain_trl_learns(family: str, tmp_path: Path) -> None:
    """With the loss that keeps experts evenly used, where trl adds it; the held-out loss is that of tokens alone."""
    base = make_mixture(tmp_path / "base", family)
    folder = make_run(tmp_path, base, *_SHORT)
    context, config = JobContext(folder), folder.config()
    tokenizer = tokenizer_of(base)
    data = prepare_datasets(config, tokenizer, folder, context)
    device = choose_device(config, context)

    def model() -> Any:
        set_seed(config.training.seed)
        return attach_adapters(load_base(base, config, device), config)

    ours = build_trainer(
        model=model(),
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )
    assert torch.isfinite(torch.tensor(ours.evaluate()["eval_loss"]))
    assert ours.aux_loss_enabled is (family != "deepseek_v3")
    ours.train()
    told = [event.loss for event in folder.events() if isinstance(event, StepDone)]
    context.close()
    plain = SFTTrainer(
        model=model(),
        args=arguments(config, device, str(tmp_path / "plain")),
        train_dataset=data.training.remove_columns("row"),
        processing_class=tokenizer,
        data_collator=collator(tokenizer),
    )
    cast_adapters(plain.model, device.adapter_dtype)
    plain.train()
    assert told == [entry["loss"] for entry in plain.state.log_history if "loss" in entry]


@pytest.mark.parametrize("family", ["qwen3_moe", pytest.param("mixtral", marks=pytest.mark.slow)])
def test_a_mixture_gets_from_start_to_a_verified_export_with_the_defaults(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family, dtype=torch.bfloat16)
    folder = make_run(tmp_path, base, *_SHORT, "export.merge=true", "training.max_length=256")
    state = run_to_end(folder)
    assert state.phase is Phase.FINISHED, state.failure
    events = list(folder.events())
    assert [event.loss is not None for event in events if isinstance(event, Evaluated)][:1] == [True]
    reports = [event.report for event in events if isinstance(event, VerificationReported)]
    assert [report.verified for report in reports] == [True], reports
    config = folder.config()
    model, tokenizer = load_tuned(folder, choose_device(config, QUIET), "final", QUIET)
    assert isinstance(answer(model, tokenizer, [{"role": "user", "content": "hello"}], max_new_tokens=3), str)
