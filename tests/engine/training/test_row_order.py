"""The same rows a step and the same gradient with less padding: rows of like length in a batch, or all end to end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from trl import SFTTrainer

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.collator import collator, joined, take_facts
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.data.report import length_statistics
from qlora_studio.engine.data.tokenized_rows import IGNORED
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.training.pack_isolation import lay_end_to_end
from qlora_studio.engine.training.setup import arguments, build_trainer
from qlora_studio.engine.training.trained_positions import trained_positions
from qlora_studio.storage.runs.run_folder import RunFolder

_ROWS_IN_STEP = 8  # of four batches
_SETTINGS = (
    "training.batch_size=2",
    "training.gradient_accumulation=4",
    "training.max_length=256",
    "quantization.compute_dtype=float32",
    "lora.dropout=0",
)


@pytest.fixture(scope="module")
def prepared(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, JobContext]]:
    """A run config, its rows, and the run's context."""
    place = tmp_path_factory.mktemp("order")
    context = JobContext(RunFolder(place / "run"))
    config = from_mapping({"data": {"path": str(write_rows(place / "rows.jsonl"))}}, _SETTINGS)
    yield config, prepare_datasets(config, tokenizer_of(tiny_llama), context.folder, context), context
    context.close()


@pytest.fixture(scope="module")
def twins(tiny_llama: Path, prepared: tuple[Any, Any, JobContext]) -> tuple[Any, Any]:
    """Our trainer and plain trl's, with one model, the same rows and the same arguments."""
    config, data, context = prepared
    tokenizer, device = tokenizer_of(tiny_llama), choose_device(config, context)
    ours = build_trainer(
        model=attach_adapters(load_base(tiny_llama, config, device), config),
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )
    generator = torch.Generator().manual_seed(5)
    for parameter in ours.model.parameters():
        if parameter.requires_grad:  # B is zero in a fresh adapter, and with it half of the gradients
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    plain: Any = SFTTrainer(
        model=attach_adapters(load_base(tiny_llama, config, device), config),
        args=arguments(config, device, str(context.folder.path / "plain")),
        train_dataset=data.training,
        eval_dataset=data.evaluation,
        processing_class=tokenizer,
        data_collator=collator(tokenizer),
    )
    cast_adapters(plain.model, device.adapter_dtype)
    plain._set_signature_columns_if_needed()
    plain._signature_columns.append("row")
    return ours, plain


@pytest.fixture(scope="module")
def flat(tiny_llama: Path, prepared: tuple[Any, Any, JobContext], twins: tuple[Any, Any]) -> Any:
    """Our trainer once more, with rows end to end and the same adapters."""
    config, data, context = prepared
    device = choose_device(config, context)
    model = attach_adapters(load_base(tiny_llama, config, device), config)
    assert lay_end_to_end(model)
    made = build_trainer(
        model=model,
        tokenizer=tokenizer_of(tiny_llama),
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )
    made.model.load_state_dict(twins[0].model.state_dict(), strict=False)
    return made


def taken_steps(trainer: Any, epoch: int) -> list[list[Any]]:
    """Return the batches of an epoch as the trainer takes them, step by step."""
    loader = trainer.get_train_dataloader()
    loader.set_epoch(epoch)
    batches = iter(loader)
    return [trainer.get_batch_samples(batches, 4, torch.device("cpu"))[0] for _ in range(-(-len(loader) // 4))]


def write_rows(path: Path, count: int = 75) -> Path:
    """Write chats with answers of one to twenty sentences, in no order of length."""
    chats = [
        [
            {"role": "user", "content": f"How much is {number}?"},
            {"role": "assistant", "content": f"It is {number}. " + "Steady on. " * (number * 17 % 20)},
        ]
        for number in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in chats), encoding="utf-8")
    return path


def steps_of(trainer: Any, epoch: int) -> list[list[Any]]:
    """Return the batches of an epoch, step by step."""
    loader = trainer.get_train_dataloader()
    loader.set_epoch(epoch)
    batches = list(loader)
    return [batches[start : start + 4] for start in range(0, len(batches), 4)]


def rows_of(step: list[Any]) -> list[int]:
    return sorted(row for batch in step for row in batch["rows"])


def padding_of(steps: list[list[Any]]) -> float:
    slots = sum(batch["input_ids"].numel() for step in steps for batch in step)
    tokens = sum(int(batch["tokens"]) for step in steps for batch in step)
    return float(slots / tokens - 1)


def test_nothing_travels_to_the_card_but_what_the_model_takes(twins: Any) -> None:
    """A tensor that is read back, such as the rows' numbers, would make each batch wait for the one before."""
    for batch in twins[0].get_train_dataloader():
        tensors = {name for name, value in batch.items() if torch.is_tensor(value)}
        assert tensors == {"input_ids", "labels", "attention_mask"}
        rows, tokens = take_facts(batch)
        assert (type(rows[0]), type(tokens)) == (int, int)


def test_a_batch_is_read_back_no_more_than_the_model_itself_asks_and_has_the_loss_of_trl(twins: Any) -> None:
    """Each reading waits for the card. (How many positions are trained is asked besides where trl scores them all.)"""
    trainer, batch = twins[0], steps_of(twins[0], 0)[0][0]
    take_facts(batch)
    items = torch.tensor(int((batch["labels"][:, 1:] != IGNORED).sum()))
    trainer.model.eval()
    trls_loss: Any = SFTTrainer.compute_loss
    with _Reads() as plain:
        trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    with _Reads() as ours:
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items)
        loss.backward()
    with _Reads() as trls, trained_positions(trainer.model, batch) as scored:
        expected = trls_loss(trainer, trainer.model, scored, num_items_in_batch=items)
    assert loss.detach() == expected.detach()
    assert ours.count == plain.count
    assert trls.count > plain.count  # else there is nothing left to spare


class _Reads(TorchDispatchMode):
    """Counts single values that are read back."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __enter__(self) -> "_Reads":
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_local_scalar_dense" in str(func) or "is_nonzero" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_step_has_the_rows_that_it_has_with_plain_trl_in_whatever_batches(twins: Any, epoch: int) -> None:
    ours, plain = (steps_of(trainer, epoch) for trainer in twins)
    assert [rows_of(step) for step in ours] == [rows_of(step) for step in plain]
    assert [[len(batch["rows"]) for batch in step] for step in ours] == [
        [len(batch["rows"]) for batch in step] for step in plain
    ]
    assert padding_of(ours) < 0.5 * padding_of(plain)
    for step in ours:
        widths = [batch["input_ids"].shape[1] for batch in step]
        assert widths == sorted(widths, reverse=True), "the batch that takes the most memory is not the first"


def test_another_epoch_has_another_order(twins: Any) -> None:
    first, second = (steps_of(twins[0], epoch) for epoch in (0, 1))
    assert [rows_of(step) for step in first] != [rows_of(step) for step in second]


def test_the_padding_that_the_data_page_tells_is_about_what_the_steps_have(twins: Any, prepared: Any) -> None:
    config, data, _ = prepared
    lengths = length_statistics(data.tally, config)
    assert lengths is not None
    excess = padding_of(steps_of(twins[0], 0))
    assert lengths.padding_share == pytest.approx(excess / (1 + excess), abs=0.03)
    drawn = padding_of(steps_of(twins[1], 0))
    assert drawn / (1 + drawn) > lengths.padding_share + 0.05


def test_end_to_end_a_step_has_its_rows_in_as_few_batches_as_hold_them_without_padding(twins: Any, flat: Any) -> None:
    plain, taken = steps_of(twins[1], 0), taken_steps(flat, 0)
    assert [rows_of(step) for step in taken] == [rows_of(step) for step in plain]
    assert [len(step) for step in taken] == [len(step) for step in plain], "what counts batches would count wrong"
    assert padding_of(taken) == 0
    lengths = sorted(len(row["input_ids"]) for row in flat.train_dataset)
    for step in taken:
        sizes = [batch["input_ids"].shape[1] for batch in step]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] <= sum(lengths[-2:])
    assert any(not batch["input_ids"].numel() for step in taken for batch in step), "nothing was joined"


def test_end_to_end_the_batches_of_a_step_are_of_about_one_size(flat: Any) -> None:
    for step in steps_of(flat, 0)[:-1]:
        sizes = [batch["input_ids"].shape[1] for batch in step]
        assert max(sizes) - min(sizes) <= 0.3 * max(sizes)
        assert [len(batch["rows"]) for batch in step] == [2, 2, 2, 2]


def test_end_to_end_a_step_has_the_loss_and_the_gradient_of_plain_trl_for_less_work(twins: Any, flat: Any) -> None:
    ours, plain = twins
    plain.model.load_state_dict(ours.model.state_dict(), strict=False)
    loss, gradient, work = gradient_of(flat, [batch for batch in taken_steps(flat, 0)[0] if batch["rows"]])
    plain_loss, plain_gradient, plain_work = gradient_of(plain, steps_of(plain, 0)[0])
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert (gradient - plain_gradient).norm() <= 1e-5 * plain_gradient.norm()
    assert work < 0.7 * plain_work


def test_an_empty_batch_is_a_step_that_adds_nothing(flat: Any) -> None:
    empty = joined(steps_of(flat, 0)[0], 10**6)[-1]
    assert not empty["input_ids"].numel()
    flat.model.zero_grad()
    assert float(flat.training_step(flat.model, dict(empty))) == 0
    assert all(parameter.grad is None for parameter in flat.model.parameters())


def gradient_of(trainer: Any, step: list[Any]) -> tuple[float, torch.Tensor, int]:
    """Return loss, gradient and floating point operations of a step, as the trainer takes it."""
    trainer.model.train()
    trainer.model.zero_grad()
    items, total = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in step), 0.0
    with FlopCounterMode(display=False) as counter:
        for batch in step:
            inputs = dict(batch)
            take_facts(inputs)
            loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=torch.tensor(items))
            loss.backward()
            total += float(loss.detach())
    trained = [parameter.grad.flatten() for parameter in trainer.model.parameters() if parameter.requires_grad]
    return total, torch.cat(trained), counter.get_total_flops()


def test_a_step_has_the_loss_and_the_gradient_of_plain_trl_for_less_work(twins: Any) -> None:
    ours, plain = twins
    plain.model.load_state_dict(ours.model.state_dict(), strict=False)
    loss, gradient, work = gradient_of(ours, steps_of(ours, 0)[0])
    plain_loss, plain_gradient, plain_work = gradient_of(plain, steps_of(plain, 0)[0])
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert (gradient - plain_gradient).norm() <= 1e-5 * plain_gradient.norm()
    assert work < 0.7 * plain_work


def test_held_out_rows_are_measured_the_longest_first_and_come_to_the_same_loss(twins: Any) -> None:
    ours, _ = twins
    batches = list(ours.get_eval_dataloader())
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) > 1
    assert sorted(row for batch in batches for row in batch["rows"]) == sorted(ours.eval_dataset["row"])
    assert ours.evaluate()["eval_loss"] == pytest.approx(loss_of_tokens(ours), rel=1e-6)


def test_held_out_rows_end_to_end_come_to_the_same_loss(flat: Any) -> None:
    assert flat.evaluate()["eval_loss"] == pytest.approx(loss_of_tokens(flat), rel=1e-6)


def loss_of_tokens(trainer: Any) -> float:
    """Return the held-out loss by the model's own logits, row by row."""
    total, items = 0.0, 0
    trainer.model.eval()
    for row in trainer.eval_dataset:
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = trainer.model(torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
        total += float(
            torch.nn.functional.cross_entropy(logits.double(), labels, ignore_index=IGNORED, reduction="sum")
        )
        items += int((labels != IGNORED).sum())
    return total / items
