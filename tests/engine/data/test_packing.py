"""Packs: every row once, as few packs as can be had, the same for preview and training, and no row sees another."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.data.packing import pack
from qlora_studio.core.data.report import RowPreview
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.reports import RowsReported
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.checks import checks_of
from qlora_studio.engine.data.collator import collator, take_facts
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.data.preview import ShownRows, strings_of
from qlora_studio.engine.data.report import length_statistics
from qlora_studio.engine.data.tokenized_rows import IGNORED
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.training.pack_isolation import require_isolation
from qlora_studio.engine.training.setup import build_trainer
from qlora_studio.engine.training.trainer import StudioTrainer
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import make_run, of_type, run_to_end

_LENGTHS = st.lists(st.integers(1, 64), max_size=300)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return tokenizer_of(tiny_llama)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    made = JobContext(RunFolder(tmp_path / "run"))
    yield made
    made.close()


@given(_LENGTHS, st.integers(0, 9))
def test_each_row_stands_in_one_pack_and_no_pack_is_too_long(lengths: list[int], seed: int) -> None:
    tokens = numpy.array(lengths, dtype=numpy.int64)
    packs = pack(tokens, 64, seed)
    assert sorted(packs.rows.tolist()) == list(range(len(lengths)))
    sums = [int(tokens[packs.rows[a:b]].sum()) for a, b in zip(packs.starts, packs.starts[1:], strict=False)]
    assert sums == packs.lengths.tolist()
    assert all(0 < size <= 64 for size in sums)


@given(_LENGTHS)
def test_the_packs_are_as_few_as_best_fit_decreasing_row_by_row_makes(lengths: list[int]) -> None:
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else 64) - length)
    assert sorted(64 - room for room in rooms) == sorted(pack(numpy.array(lengths, dtype=int), 64, 0).lengths.tolist())


def test_rows_of_one_length_are_drawn_by_the_seed() -> None:
    same = numpy.full(100, 10)
    assert pack(same, 40, 1).rows.tolist() == pack(same, 40, 1).rows.tolist()
    assert pack(same, 40, 1).rows.tolist() != pack(same, 40, 2).rows.tolist()


def write(path: Path, count: int = 60) -> Path:
    turns = [
        [
            {"role": "user", "content": f"Is it {number}?"},
            {"role": "assistant", "content": "Yes, ü🙂. " * (number % 17) + "Done."},
        ]
        for number in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns), "utf-8")
    return path


def config_for(path: Path, **training: Any) -> RunConfig:
    settings = {"max_length": 96, "batch_size": 2, "packing": True, **training}
    return from_mapping({"data": {"path": str(path)}, "training": settings})


def previews(config: RunConfig, data: PreparedData, context: JobContext) -> dict[int, RowPreview]:
    """Return every row as the X-ray shows it."""
    with ShownRows(config, data, context) as shown:
        shown.show(ShowRows(request=1, rows=list(range(sum(data.tally.verdicts.values())))))
    (event,) = [event for event in context.folder.events() if isinstance(event, RowsReported)]
    return {row.number: row for row in event.report.rows}


def trainer_for(
    model: Path, tokenizer: Any, data: PreparedData, config: RunConfig, context: JobContext
) -> StudioTrainer:
    device = choose_device(config, context)
    return build_trainer(
        model=attach_adapters(load_base(model, config, device), config),
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )


def test_a_packed_run_feeds_id_for_id_what_the_preview_showed(
    tiny_llama: Path, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    config = config_for(write(tmp_path / "rows.jsonl"))
    data = prepare_datasets(config, tokenizer, context.folder, context)
    shown = previews(config, data, context)
    trainer = trainer_for(tiny_llama, tokenizer, data, config, context)
    seen: list[int] = []
    for batch in trainer.get_train_dataloader():
        assert "attention_mask" not in batch
        numbers = batch["rows"]
        seen += numbers
        for ids, labels, places in zip(
            batch["input_ids"].tolist(), batch["labels"].tolist(), batch["position_ids"].tolist(), strict=True
        ):
            first = shown[numbers[0]]
            assert first.pack is not None and not first.pack.before
            here = [first.number, *(row.number for row in first.pack.after)]
            assert numbers[: len(here)] == here
            numbers = numbers[len(here) :]
            kept = [[piece for piece in shown[number].tokens if not piece.cut] for number in here]
            assert ids[: first.pack.tokens] == [piece.id for row in kept for piece in row]
            assert labels[: first.pack.tokens] == [
                piece.id if piece.trained else IGNORED for row in kept for piece in row
            ]
            assert places[: first.pack.tokens] == [place for row in kept for place in range(len(row))]
            assert set(labels[first.pack.tokens :]) <= {IGNORED}
        assert not numbers
    assert sorted(seen) == sorted(number for number, row in shown.items() if row.part == "training")
    assert any(len(row.tokens) > row.kept for row in shown.values()), "no row was cut"


def test_the_xray_shows_the_neighbours_of_a_row_as_they_are_trained(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    config = config_for(write(tmp_path / "rows.jsonl"))
    data = prepare_datasets(config, tokenizer, context.folder, context)
    shown = previews(config, data, context)
    for row in shown.values():
        if row.part != "training":
            assert row.pack is None
            continue
        assert row.pack is not None
        for neighbour in (*row.pack.before, *row.pack.after):
            own = [piece for piece in shown[neighbour.number].tokens if not piece.cut]
            assert shown[neighbour.number].part == "training"
            assert [(piece.id, piece.trained, piece.special) for piece in neighbour.tokens] == [
                (piece.id, piece.trained, piece.special) for piece in own
            ]
            assert all(piece.packed for piece in neighbour.tokens)
            assert "".join(piece.string for piece in neighbour.tokens) == "".join(piece.string for piece in own)


def test_the_numbers_are_those_of_the_packs_that_are_trained(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", 200)
    data = prepare_datasets(config_for(path, batch_size=1, gradient_accumulation=3), tokenizer, context.folder, context)
    config = config_for(path, batch_size=1, gradient_accumulation=3)
    lengths = length_statistics(data.tally, config, "this model says so")
    assert lengths is not None and data.facts.packs == len(data.training)
    sizes = [len(row["input_ids"]) for row in data.training]
    assert lengths.packs == len(sizes)
    assert lengths.steps_per_epoch == -(-len(sizes) // 3)
    assert lengths.row_tokens == max(sizes)
    assert lengths.tokens_per_epoch == sum(sizes)
    assert lengths.packed_padding_share == 0
    unpacked = length_statistics(data.tally, config_for(path, packing=False))
    assert unpacked is not None
    assert unpacked.packs == lengths.packs and unpacked.steps_per_epoch != lengths.steps_per_epoch
    (check,) = [
        check
        for check in checks_of(data, config_for(path, batch_size=1), lengths, with_trainer=False)
        if check.name == "packing_pays"
    ]
    assert "Attention takes packs with a mask" in check.message


@pytest.mark.parametrize(
    ("why", "packing", "in_a_batch", "of_packs"),
    [
        ("", False, "Rows lie end to end, without padding; padded", ""),
        ("", True, "Rows lie end to end, without padding; padded", "packs save nothing more"),
        ("it counts on its fingers", False, "Rows are padded to the longest of a batch", ""),
        ("it counts on its fingers", True, "Packs are padded to the longest of a batch", "with a mask"),
    ],
)
def test_how_rows_share_a_batch_is_told_with_its_reason_and_its_padding(
    why: str, packing: bool, in_a_batch: str, of_packs: str, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    config = config_for(write(tmp_path / "rows.jsonl"), packing=packing)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    lengths = length_statistics(data.tally, config, why)
    assert lengths is not None
    told = {check.name: check for check in checks_of(data, config, lengths, with_trainer=False)}
    share = lengths.packed_padding_share if packing else lengths.padding_share
    assert in_a_batch in told["rows_in_a_batch"].message and f"{share:.0%} of it" in told["rows_in_a_batch"].message
    assert (why in told["rows_in_a_batch"].message) and told["rows_in_a_batch"].passed
    assert ("packing_pays" in told) == packing and (not packing or of_packs in told["packing_pays"].message)


def test_packs_are_made_once_and_again_where_they_are_damaged(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl")
    plain = prepare_datasets(config_for(path, packing=False), tokenizer, context.folder, context)
    first = prepare_datasets(config_for(path), tokenizer, context.folder, context)
    assert first.folder == plain.folder
    assert first.fingerprint != plain.fingerprint
    other = prepare_datasets(config_for(path, seed=7), tokenizer, context.folder, context)
    assert other.fingerprint != first.fingerprint
    (file,) = first.folder.glob("packed-42.arrow")
    file.write_bytes(file.read_bytes()[:100])
    assert prepare_datasets(config_for(path), tokenizer, context.folder, context).fingerprint == first.fingerprint
    assert {item.name[:7] for item in first.folder.glob("*packed*")} == {"packed-"}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_of_a_pack_have_the_loss_and_the_gradients_that_they_have_alone(
    attention: str, tiny_llama: Path, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    path = write(tmp_path / "rows.jsonl")
    packed = prepare_datasets(config_for(path, max_length=256), tokenizer, context.folder, context).training
    plain = prepare_datasets(
        config_for(path, max_length=256, packing=False), tokenizer, context.folder, context
    ).training
    by_number = {row["row"]: row for row in plain}
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32, attn_implementation=attention)
    examples = [packed[index] for index in (0, len(packed) - 1)]
    alone = [by_number[number] for example in examples for number in example["row"]]
    assert len(alone) > 4

    def gradients(examples: list[Any]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = torch.zeros(())
        for example in examples:
            loss = loss + summed_loss(model, collator(tokenizer)(example))
        loss.backward()
        return float(loss.detach()), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    together_loss, together = gradients([examples])
    alone_loss, apart = gradients([[row] for row in alone])
    assert together_loss == pytest.approx(alone_loss, rel=1e-5)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_the_trainers_own_loss_on_4_bit_weights_is_that_of_the_rows_alone(
    tiny_llama: Path, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    config = config_for(write(tmp_path / "rows.jsonl"), max_length=256)
    config = config.with_value("quantization.compute_dtype", "float32").with_value("lora.dropout", 0.0)
    packed = prepare_datasets(config, tokenizer, context.folder, context)
    trainer = trainer_for(tiny_llama, tokenizer, packed, config, context)
    plain = prepare_datasets(config.with_value("training.packing", False), tokenizer, context.folder, context).training
    by_number = {row["row"]: row for row in plain}

    def gradients(batches: list[Any]) -> tuple[float, torch.Tensor]:
        trainer.model.zero_grad()
        total = 0.0
        for examples in batches:
            batch = trainer.data_collator(examples)
            take_facts(batch)
            loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=1)
            loss.backward()
            total += float(loss.detach())
        trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        return total, torch.cat([parameter.grad.flatten() for parameter in trained])

    together_loss, together = gradients([[packed.training[0], packed.training[-1]]])
    alone = [by_number[number] for index in (0, -1) for number in packed.training[index]["row"]]
    alone_loss, apart = gradients([[row] for row in alone])
    assert len(alone) > 4
    assert together_loss == pytest.approx(alone_loss, rel=1e-5)
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)


def summed_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    take_facts(batch)
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def test_the_strings_of_tokens_spell_the_text(tokenizer: Any) -> None:
    for text in ("Yes, ü🙂 and 你好.\n\n <|im_end|>\n", "🙂", ""):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        strings = strings_of(ids, tokenizer)
        assert len(strings) == len(ids)
        assert "".join(strings) == text


@pytest.mark.slow
def test_a_broken_batch_of_packs_names_the_rows_in_it(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "nan@2")
    folder = make_run(tmp_path / "runs", tiny_llama, "training.packing=true", "training.max_length=256")
    state = run_to_end(folder)
    (prepared,) = of_type(folder.events(), "dataset_prepared")
    assert isinstance(prepared, DatasetPrepared) and 2 < prepared.packs < prepared.training_rows / 2
    assert state.failure is not None and state.failure.kind == "non_finite_loss"
    named = state.failure.advice.rpartition("dataset: ")[2].rstrip(".").split(", ")
    assert 2 < len(named) <= 20 and all(1 <= int(number) <= 40 for number in named)


def test_a_model_that_carries_a_state_from_row_to_row_is_not_trained_in_packs(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

    require_isolation(AutoModelForCausalLM.from_pretrained(tiny_llama))
    small = MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=1, expand=2)
    with pytest.raises(StudioError, match="keep the rows of a pack apart") as caught:
        require_isolation(MambaForCausalLM(small))
    assert "packing" in caught.value.advice
