"""The probe takes a real step and a real evaluation on the longest rows, and leaves no trace of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import set_seed

from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.training.probe import probe
from qlora_studio.engine.training.setup import build_trainer
from qlora_studio.engine.training.trainer import StudioTrainer
from tests.engine.families import make_base, make_tokenizer
from tests.engine.training_run import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(params=["llama", "gemma4_audio_wrapper", "qwen3_5_wrapper"])
def base(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path: Path) -> Path:
    return tiny_llama if request.param == "llama" else make_tokenizer(make_base(tmp_path / "base", request.param))


@pytest.fixture
def trainer(base: Path, tmp_path: Path) -> Iterator[StudioTrainer]:
    """A trainer over a tiny model as a run makes it, before its first step."""
    with _trainer(base, tmp_path) as made:
        yield made


@contextmanager
def _trainer(base: Path, tmp_path: Path, *settings: str) -> Iterator[StudioTrainer]:
    folder = make_run(tmp_path, base, "training.max_steps=2", "checkpoint.every_steps=0", *settings)
    context, config = JobContext(folder), folder.config()
    tokenizer = tokenizer_of(base)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    device = choose_device(config, context)
    set_seed(config.training.seed)
    model = attach_adapters(load_base(base, config, device), config)
    yield build_trainer(
        model=model,
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )
    context.close()


def _weights(trainer: StudioTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_probe_steps_and_evaluates_on_the_longest_rows_and_leaves_everything_as_it_was(
    trainer: StudioTrainer,
) -> None:
    before, random_state, training = _weights(trainer), torch.get_rng_state(), trainer.model.training
    steps: list[bool] = []
    lengths: list[tuple[bool, int]] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(not _equal(before, _weights(trainer))))
    watch = trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: lengths.append((model.training, kwargs["input_ids"].shape[1])), with_kwargs=True
    )
    probed = probe(trainer)
    hook.remove()
    watch.remove()
    longest = {name: max(map(len, data["input_ids"])) for name, data in _datasets(trainer).items()}
    assert steps == [True, True], "the probe takes one step, and one beside the optimizer's state"
    assert lengths == [*3 * [(True, longest["training"])], (False, longest["evaluation"])]
    assert (probed.rows, probed.tokens) == (2, longest["training"])
    assert _equal(before, _weights(trainer))
    assert torch.equal(random_state, torch.get_rng_state())
    assert trainer.optimizer is None
    assert trainer.model.training is training
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_run_after_a_probe_learns_what_it_learns_without_one(trainer: StudioTrainer) -> None:
    begin, random_state = _weights(trainer), torch.get_rng_state()
    probe(trainer)
    trainer.train()
    probed = _weights(trainer)
    for name, value in trainer.model.named_parameters():
        if name in begin:
            value.data.copy_(begin[name])
    torch.set_rng_state(random_state)
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.train()
    assert not _equal(begin, probed)
    assert _equal(probed, _weights(trainer))


def test_a_probe_finds_the_gradients_of_one_batch_and_the_optimizers_state_beside_the_second(
    trainer: StudioTrainer,
) -> None:
    beside: list[tuple[bool, bool]] = []
    weight = next(value for value in trainer.model.parameters() if value.requires_grad)
    watch = trainer.model.register_forward_pre_hook(
        lambda *_: beside.append((weight.grad is not None, bool(trainer.optimizer.state)))
    )
    probe(trainer)
    watch.remove()
    assert beside == [(False, False), (False, True), (True, True), (False, True)]


def test_a_probe_computes_in_the_precision_that_training_computes_in(tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[bool] = []
    with _trainer(tiny_llama, tmp_path, "quantization.compute_dtype=bfloat16") as trainer:
        if trainer.studio_device.compute_dtype != torch.bfloat16:
            pytest.skip("this processor does not compute in bf16")
        words = trainer.model.get_input_embeddings()
        watch = words.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
        probe(trainer)
        assert seen == [True] * 4
        trainer.evaluate()
        trainer.train()
        watch.remove()
    assert all(seen)
    assert len(seen) > 4


@pytest.mark.parametrize(("name", "dtype"), [("adamw_32bit", torch.float32), ("adamw_8bit", torch.uint8)])
def test_plain_adamw_keeps_its_state_in_the_size_that_it_says_and_pages_nothing(
    name: str, dtype: torch.dtype, tiny_llama: Path, tmp_path: Path
) -> None:
    with _trainer(tiny_llama, tmp_path, f"training.optimizer={name}", "lora.rank=64") as trainer:
        trainer.train()
        optimizer = trainer.optimizer.optimizer
    states = [state["state1"] for parameter, state in optimizer.state.items() if parameter.numel() >= 4096]
    assert {state.dtype for state in states} == {dtype}
    assert not optimizer.is_paged


def _datasets(trainer: StudioTrainer) -> dict[str, Any]:
    return {"training": trainer.train_dataset, "evaluation": trainer.eval_dataset}
