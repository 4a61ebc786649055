"""Fit to my GPU: the fastest settings that surely fit, with the same effective batch."""

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fastest import FastestFit, Situation, fastest_fit
from qlora_studio.core.memory.fit import FitVerdict, fit_to_gpu, judge, split_batch
from qlora_studio.core.memory.gpu_catalogue import GPUS, find_gpu
from qlora_studio.core.memory.spare import estimate_with_spare
from qlora_studio.core.memory.step_rate import rate_note, step_rate
from qlora_studio.core.model.shape import ModelShape, shape_from_config
from qlora_studio.core.quantity import GIB
from qlora_studio.storage.models.catalogue import find_in_catalogue
from tests.core.memory.test_estimator import LLAMA_8B

SHAPE = shape_from_config(LLAMA_8B)
NO_DROPOUT = RunConfig().with_value("lora.dropout", 0.0)
CARD_NAMES = [gpu.name for gpu in GPUS]


@given(
    card=st.sampled_from(CARD_NAMES),
    free=st.integers(4, 90),
    batch=st.sampled_from([1, 2, 3, 8, 16]),
    accumulation=st.sampled_from([1, 4, 6, 16]),
    length=st.sampled_from([256, 1024, 2048, 8192]),
    rank=st.sampled_from([8, 64, 256]),
    checkpointing=st.sampled_from(["auto", "on", "off"]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_proposed_fits_as_a_run_would_take_it_and_is_the_fastest_split(
    card: str, free: int, batch: int, accumulation: int, length: int, rank: int, checkpointing: str
) -> None:
    wish = {
        "training.batch_size": batch,
        "training.gradient_accumulation": accumulation,
        "training.max_length": length,
        "lora.rank": rank,
        "training.gradient_checkpointing": checkpointing,
    }
    config = _with(RunConfig(), wish)
    found = _fit(config, card, free * GIB)
    proposed = found.proposal.config
    assert proposed.effective_batch == config.effective_batch
    assert _with(config, found.proposal.changes) == proposed
    resolved, taken = estimate_with_spare(proposed, SHAPE, free * GIB, _estimated(card))
    assert taken.total_bytes == found.proposal.estimate.total_bytes
    assert judge(taken, free * GIB) == found.proposal.fit
    if not found.rate:
        return
    assert found.proposal.fit.verdict is FitVerdict.FITS
    assert step_rate(resolved, SHAPE, find_gpu(card)) == found.rate
    for size in range(1, proposed.effective_batch + 1):
        if proposed.effective_batch % size == 0:
            other = _with(split_batch(proposed, size), {"training.gradient_checkpointing": "auto"})
            other, needs = estimate_with_spare(other, SHAPE, free * GIB, _estimated(card))
            rate = step_rate(other, SHAPE, find_gpu(card))
            assert rate is not None
            if judge(needs, free * GIB).verdict is FitVerdict.FITS:
                assert rate.tokens_per_second <= 1.05 * found.rate.tokens_per_second


def test_the_reason_tells_batch_layers_rate_and_gain() -> None:
    found = _fit(_with(NO_DROPOUT, {"training.max_length": 512}), "RTX 4090", 24 * GIB)
    assert found.proposal.changes == {"training.batch_size": 4, "training.gradient_accumulation": 4}
    assert found.words == "Batch 4 × 4, 0 of 32 layers checkpointed: about 2,600 tokens/s, 1.1 × as fast as now"
    assert found.gain is not None
    assert found.gain > 1.05


def test_a_run_that_does_not_fit_is_split_before_anything_that_costs_quality() -> None:
    crowded = _with(RunConfig(), {"training.batch_size": 16, "training.gradient_accumulation": 1})
    found = _fit(crowded, "RTX 4090", 10 * GIB)
    assert {name.split(".")[1] for name in found.proposal.changes} == {"batch_size", "gradient_accumulation"}
    assert found.gain is None
    assert "as now" not in found.words


def test_what_is_fast_already_is_left_alone() -> None:
    config = _with(NO_DROPOUT, {"training.batch_size": 4, "training.gradient_accumulation": 4})
    found = _fit(_with(config, {"training.max_length": 512}), "RTX 4090", 24 * GIB)
    assert (found.proposal.changes, found.gain) == ({}, 1.0)


def test_layers_that_were_set_by_hand_are_left_to_the_run_where_that_is_faster() -> None:
    config = _with(NO_DROPOUT, {"training.gradient_checkpointing": "on", "training.batch_size": 1})
    found = _fit(config, "RTX 4090", 24 * GIB)
    assert found.proposal.changes["training.gradient_checkpointing"] == "auto"
    assert found.gain is not None
    assert found.gain > 1.3


@pytest.mark.parametrize("gib", [8, 12, 24])
def test_of_a_card_whose_speed_is_not_known_what_fits_is_told_and_no_rate(gib: int) -> None:
    found = _fit(RunConfig(), "GTX 1080 Ti", gib * GIB)
    assert found.proposal.changes == fit_to_gpu(RunConfig(), SHAPE, gib * GIB).changes
    assert (found.rate, found.gain, found.words) == (None, None, "")


def test_the_largest_steps_that_the_settings_take_are_judged_at_once_and_proposed_within_them() -> None:
    greedy = _with(RunConfig(), {"training.batch_size": 4096, "training.gradient_accumulation": 4096})
    began = time.process_time()
    found = _fit(greedy, "B200", 170 * GIB)
    assert time.process_time() - began < 2
    assert found.proposal.config.effective_batch == 4096 * 4096
    assert RunConfig.model_validate(found.proposal.config.model_dump()) == found.proposal.config


def test_a_step_of_many_rows_is_as_fast_as_one_of_few() -> None:
    card, lengths = find_gpu("RTX 4090"), _lengths(16, 1008)
    few, many = (
        step_rate(_with(RunConfig(), {"training.gradient_accumulation": count}), SHAPE, card, lengths)
        for count in (32, 320)
    )
    assert few is not None
    assert many is not None
    assert many.tokens_per_second == pytest.approx(few.tokens_per_second, rel=1e-3)
    assert many.seconds == pytest.approx(10 * few.seconds, rel=1e-3)


@pytest.mark.parametrize(("shape", "slower"), [(SHAPE, 1.0), (replace(SHAPE, sinks=True), 1.2)])
def test_rows_of_mixed_lengths_are_predicted_with_their_padding_where_they_are_padded(
    shape: ModelShape, slower: float
) -> None:
    mixed, even = _lengths(16, 1008), _lengths(496, 528)
    config = split_batch(RunConfig(), 4)
    padded, plain = (step_rate(config, shape, find_gpu("RTX 4090"), lengths) for lengths in (mixed, even))
    assert padded is not None
    assert plain is not None
    assert padded.tokens == pytest.approx(16 * 512, rel=0.02)
    assert plain.tokens == pytest.approx(16 * 512, rel=0.02)
    assert padded.seconds / plain.seconds == pytest.approx(slower, rel=0.09)


def test_two_cards_take_half_a_step_each_and_then_add_up_what_they_found() -> None:
    """An 8B of rank 16 has 41,943,040 numbers of 4 bytes, at 10 GB/s."""
    alone, together = (step_rate(RunConfig(), SHAPE, find_gpu("RTX 3090"), cards=cards) for cards in (1, 2))
    assert alone is not None
    assert together is not None
    assert together.seconds == pytest.approx(alone.seconds / 2 + 4 * 41_943_040 / 10e9, rel=1e-6)
    assert (together.tokens, together.row_seconds) == (alone.tokens, alone.row_seconds / 2)
    assert rate_note(together, RunConfig(), SHAPE, None).startswith(
        "Predicted for 2 cards together, never measured: about "
    )


def test_a_base_that_is_shared_out_is_gathered_twice_for_each_batch() -> None:
    """A Qwen3 32B has 64 layers of 487,587,840 numbers in its linears, half a byte each; half comes from the other."""
    known = find_in_catalogue("Qwen/Qwen3-32B")
    assert known is not None
    config = _with(RunConfig(), {"hardware.gpus": "0,1", "training.gradient_accumulation": 8})
    whole, shared = (
        step_rate(_with(config, {"hardware.sharding": wish}), known.shape, find_gpu("RTX 3090"), cards=2)
        for wish in ("off", "on")
    )
    assert whole is not None
    assert shared is not None
    once = 64 * 487_587_840 / 2 / 2 / 10e9
    assert shared.gathering == pytest.approx(2 * 8 / 2 * once)
    assert shared.seconds == pytest.approx(whole.seconds + shared.gathering)
    assert shared.row_seconds == pytest.approx(whole.row_seconds + once / config.training.batch_size / 2)
    note = rate_note(shared, config, known.shape, None)
    assert "Predicted for 2 cards that share the base out, never measured" in note
    assert f"{shared.gathering:.1f} s of these the base is on its way" in note
    assert (whole.gathering, "or more" in whole.words, "or more" in shared.words) == (0, False, True)


@pytest.mark.parametrize(
    ("model", "changes", "card", "why"),
    [
        ("Qwen/Qwen3-8B", {}, None, "how fast this card computes is not known"),
        ("Qwen/Qwen3-8B", {"lora.dora": True}, "RTX 3090", "DoRA"),
        ("Qwen/Qwen3-8B", {"quantization.compute_dtype": "float32"}, "RTX 3090", "32 bits"),
        ("Qwen/Qwen3-30B-A3B", {}, "RTX 3090", "a mixture of experts"),
    ],
)
def test_where_no_speed_is_predicted_it_is_said_why(
    model: str, changes: dict[str, Any], card: str | None, why: str
) -> None:
    known, spec, config = find_in_catalogue(model), find_gpu(card) if card else None, _with(RunConfig(), changes)
    assert known is not None
    assert step_rate(config, known.shape, spec) is None
    note = rate_note(None, config, known.shape, spec)
    assert note.startswith("No speed is predicted: ")
    assert why in note


def test_what_is_proposed_comes_out_even_over_the_cards() -> None:
    situation = Situation(SHAPE, find_gpu("RTX 4090"), 22 * GIB, _estimated("RTX 4090"), cards=4)
    found = fastest_fit(_with(RunConfig(), {"training.batch_size": 1, "training.max_length": 512}), situation)
    assert found.proposal.config.training.gradient_accumulation % 4 == 0
    assert found.rate is not None
    assert found.rate.cards == 4


def _fit(config: RunConfig, card: str, free_bytes: int) -> FastestFit:
    return fastest_fit(config, Situation(SHAPE, find_gpu(card), free_bytes, _estimated(card)))


def _estimated(card: str) -> Any:
    def made(config: RunConfig) -> Estimate:
        return estimate(config, SHAPE, gpu=find_gpu(card))

    return made


def _with(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    for path, value in changes.items():
        config = config.with_value(path, value)
    return config


def _lengths(shortest: int, longest: int) -> LengthStatistics:
    """Statistics of rows that are spread evenly between two lengths."""
    edges = tuple(range(shortest, longest + 1, 16))
    facts: dict[str, Any] = dict.fromkeys(LengthStatistics.model_fields, 0)
    facts |= {"edges": edges, "counts": (10,) * (len(edges) - 1), "quantiles": {}, "keeps": {}}
    facts |= {"rows_beyond": (), "trained_beyond": (), "padded_because": "", "total_tokens": 100, "trained_tokens": 30}
    return LengthStatistics.model_validate(facts)
