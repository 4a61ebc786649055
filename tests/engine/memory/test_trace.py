"""The memory tracer: held to published measurements, and the closed formula held to it.

The measured rows are facts of the fitcheck archive (MIT, by Anassbzdd; a Tesla T4) and of fms-acceleration's published
benchmarks (Apache-2.0, the Foundation Model Stack; an A100).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimate import estimate_from_report
from qlora_studio.core.memory.estimator import estimate_setup
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.tensors import shape_from_tensors
from qlora_studio.core.run.events import PhaseChanged
from qlora_studio.core.run.job import EstimateJob
from qlora_studio.core.run.reports import EstimateReported
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.memory import job as estimate_job
from qlora_studio.engine.memory.cuda_on_meta import PATCH_POINTS, PatchPoint, TracerOutdated, replaced
from qlora_studio.engine.memory.meta_model import _loading_order
from qlora_studio.engine.memory.traced_step import TracedStep, TraceOptions, trace_step
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.benchmarks.vram.golden import errors_of

MIB, GIB = 1 << 20, 1 << 30
ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
MIXTURE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32000,
    "num_experts": 32,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}
_MIXED: dict[str, Any] = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 4096,
    "vocab_size": 32000,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
}
_BAMBA: dict[str, Any] = {"mamba_n_heads": 32, "mamba_d_head": 64, "mamba_d_state": 64}
_TWO_KINDS = ["linear_attention", "full_attention"]
# Layers that carry a state. transformers runs them in torch where no package has kernels for them.
HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {"head_dim": 256, "num_attention_heads": 4, "layer_types": _TWO_KINDS},
    "qwen3_next": {
        "layer_types": _TWO_KINDS,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 256,
        "shared_expert_intermediate_size": 256,
    },
    "bamba": {**_BAMBA, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        **_BAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 2048,
    },
    "falcon_h1": {**_BAMBA, "mamba_d_ssm": 2048, "mamba_n_groups": 1},
    "nemotron_h": {
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "attention", "mlp"],
        "mamba_num_heads": 32,
        "mamba_head_dim": 64,
        "ssm_state_size": 64,
        "n_groups": 1,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 32, "head_dim": 64, "state_size": 64, "n_groups": 1},
}
_OFTEN = ("qwen3_5_text", "bamba", "lfm2")
GEMMA4: dict[str, Any] = {
    "model_type": "gemma4_text",
    "hidden_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "intermediate_size": 6144,
    "vocab_size": 32000,
    "vocab_size_per_layer_input": 32000,
}
T4_ROWS = [
    "SmolLM2-135M,2,512,eff,none,32,1026.91943359375,1070",
    pytest.param("SmolLM2-135M,2,512,eager,none,32,1027.29443359375,1104", marks=pytest.mark.slow),
    "TinyLlama-1.1B,2,1024,eager,none,32,3518.083984375,4226",
    "TinyLlama-1.1B,2,512,eager,nf4,32,1850.3193359375,2216",
    "SmolLM2-135M,2,512,eff,nf4,32,1063.81396484375,1194",
    pytest.param("SmolLM2-1.7B,4,1024,eff,nf4,32,5281.271484375,5940", marks=pytest.mark.slow),
    pytest.param("TinyLlama-1.1B,2,1024,eff,nf4,32,2531.5849609375,2896", marks=pytest.mark.slow),
    pytest.param("Qwen2.5-1.5B,2,1024,eff,none,32,7401.8095703125,7766", marks=pytest.mark.slow),
]
FAST = TraceOptions(evaluate=False)


def _trace(raw: dict[str, Any], setup: MemorySetup, options: TraceOptions = FAST) -> TracedStep:
    return trace_step(AutoConfig.for_model(**raw), setup, options)


def _setup(raw: dict[str, Any] = SMALL, **changes: Any) -> MemorySetup:
    shape = shape_from_config(raw)
    common = MemorySetup(
        targets=shape.targets("auto"),
        optimizer="adamw_torch_fused",
        attention="eager" if shape.eager_only else "flash",
    )
    return replace(common, **changes)


def test_what_is_behind_a_large_tensor_is_on_the_card_before_that_is_there() -> None:
    order = list(_loading_order([80, *[8] * 20], threads=2))
    comes = [index for index, is_there in order[: order.index((0, True))] if not is_there]
    assert comes == list(range(11)), "while one thread reads 80, copying aside, the other reads nine times 8"
    assert [index for index, is_there in order if is_there] == list(range(21))


def test_one_tensor_after_another_comes_onto_the_card_where_no_thread_reads_ahead() -> None:
    assert list(_loading_order([5, 6], threads=0)) == [(0, False), (0, True), (1, False), (1, True)]


@pytest.mark.parametrize("row", T4_ROWS)
def test_a_published_run_on_a_t4_is_met(row: str) -> None:
    names = "model", "batch", "seq", "attention", "quant", "rank", "peak_alloc_mib", "peak_reserved_mib"
    allocated, process = errors_of(dict(zip(names, row.split(","), strict=True)))
    assert abs(allocated) < 0.3
    assert abs(process) < (1 if ",none," in row else 3)


A100 = [
    ("Mistral-7B, fp32 casts", 4, True, 19.250),
    pytest.param("Mistral-7B, fp32 casts", 8, True, 34.461, marks=pytest.mark.slow),
    pytest.param("Llama-2-70B", 4, False, 63.448, marks=pytest.mark.slow),
    # Two rows of a 2024 stack that nobody could explain; the trace is 7 and 8 % below them.
    pytest.param("Mistral-7B", 4, False, 15.249, marks=[pytest.mark.slow, pytest.mark.xfail(strict=True)]),
    pytest.param("Mistral-7B", 8, False, 26.461, marks=[pytest.mark.slow, pytest.mark.xfail(strict=True)]),
]


@pytest.mark.parametrize(("model", "batch", "upcast", "measured"), A100)
def test_a_published_run_on_an_a100_is_met(model: str, batch: int, upcast: bool, measured: float) -> None:
    sizes = (8192, 80, 64, 28672, 4096) if "70B" in model else (4096, 32, 32, 14336, 32768)
    names = "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings"
    raw = {"model_type": "llama", "num_key_value_heads": 8, "vocab_size": 32000, **dict(zip(names, sizes, strict=True))}
    setup = MemorySetup(
        targets=ATTENTION,
        rank=16,
        dropout=0.1,
        adapter_bytes=4,
        optimizer="adamw_torch",
        loss="plain",
        batch=batch,
        row_tokens=4096,
        upcast=upcast,
    )
    traced = _trace(raw, setup, replace(FAST, expandable=False))
    assert traced.allocated / GIB == pytest.approx(measured, rel=0.03)


CHANGES: list[dict[str, Any]] = [
    {},
    {"row_tokens": 512},
    {"row_tokens": 4096, "rank": 64},
    {"batch": 4, "row_tokens": 1024},
    {"batch": 2, "masked": True, "attention": "efficient"},
    {"batch": 2, "masked": True, "attention": "efficient", "checkpointing": False, "row_tokens": 1024},
    {"attention": "eager"},
    {"checkpointing": False, "dropout": 0.1},
    {"checkpointed_layers": 1},
    {"checkpointed_layers": 1, "dropout": 0.05, "row_tokens": 4096},
    {"checkpointed_layers": 3, "batch": 4, "masked": True, "attention": "efficient", "row_tokens": 1024},
    {"checkpointed_layers": 2, "accumulation": 4},
    {"dropout": 0.05},
    {"accumulation": 4, "rank": 128},
    {"targets": frozenset({"q_proj", "v_proj"})},
    {"double": False},
    {"quantization": "fp4"},
    {"quantization": "none"},
    {"optimizer": "paged_adamw_8bit"},
    {"optimizer": "paged_adamw_32bit", "rank": 64},
    {"loss": "plain"},
    {"upcast": True},
    {"dora": True},
    {"row_tokens": 128, "rank": 256},
    {"trained_share": 0.3},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ", ".join(changes) or "default")
def test_the_formula_is_within_two_and_a_half_percent_of_the_trace(changes: dict[str, Any]) -> None:
    setup = _setup(**changes)
    traced = _trace(SMALL, setup)
    found = estimate_setup(shape_from_config(SMALL), setup)
    assert found.allocated_bytes == pytest.approx(traced.allocated, rel=0.025)
    assert found.managed_bytes == pytest.approx(traced.managed, rel=0.01)


FAMILIES: list[dict[str, Any]] = [
    {"model_type": "qwen2"},
    {"model_type": "qwen3", "head_dim": 128, "num_attention_heads": 16},
    {"model_type": "mistral"},
    {"model_type": "gemma", "head_dim": 128, "num_attention_heads": 16},
    {"model_type": "gemma2", "head_dim": 128, "num_attention_heads": 16},
    {"model_type": "gemma3_text", "head_dim": 128, "num_attention_heads": 16},
    {"model_type": "phi3", "pad_token_id": 0},
    {"model_type": "granite"},
    {"model_type": "olmo2"},
    {"model_type": "smollm3", "pad_token_id": 0},
    {"model_type": "glm4", "pad_token_id": 0},
    {"model_type": "stablelm"},
]


@pytest.mark.parametrize("changes", FAMILIES, ids=lambda changes: changes["model_type"])
def test_the_formula_holds_for_other_families(changes: dict[str, Any]) -> None:
    raw = SMALL | changes
    setup = _setup(raw)
    found = estimate_setup(shape_from_config(raw), setup)
    assert found.allocated_bytes == pytest.approx(_trace(raw, setup).allocated, rel=0.025)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    "family",
    [name if name in _OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in HYBRIDS],
)
def test_the_formula_knows_what_layers_that_carry_a_state_hold(family: str, checkpointing: bool) -> None:
    config = AutoConfig.for_model(family, **_MIXED | HYBRIDS[family])
    shape = shape_from_config(config.to_dict())
    if not shape.exact:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        shape = shape_from_tensors(shape, {name: tuple(value.shape) for name, value in model.state_dict().items()})
    experts = {"gate_proj", "up_proj", "down_proj"} if shape.expert_parameters else set()
    targets = shape.targets("auto") - {"out_proj"} - experts  # which peft refuses in Mamba's layers, or takes for all
    setup = MemorySetup(targets=targets, optimizer="adamw_torch_fused", row_tokens=512, checkpointing=checkpointing)
    traced = trace_step(config, setup, FAST)
    found = estimate_setup(shape, setup, context_bytes=0)
    assert found.allocated_bytes == pytest.approx(traced.allocated, rel=0.07)


def test_a_hybrid_that_is_known_by_its_config_alone_has_its_layers_that_carry_a_state() -> None:
    config = AutoConfig.for_model("bamba", **_MIXED | HYBRIDS["bamba"]).to_dict()
    kinds = [(layer.count, layer.recurrence is not None) for layer in shape_from_config(config).layer_shapes]
    assert kinds == [(1, True), (1, False)]


@pytest.mark.parametrize("changes", [{}, {"checkpointing": False}, {"dropout": 0.05}, {"row_tokens": 512}])
def test_the_formula_knows_gemma_4_with_its_embeddings_for_each_layer(changes: dict[str, Any]) -> None:
    setup = _setup(GEMMA4, **{"row_tokens": 1024, **changes})
    found = estimate_setup(shape_from_config(GEMMA4), setup)
    assert found.allocated_bytes == pytest.approx(_trace(GEMMA4, setup).allocated, rel=0.05)


def test_what_sees_beside_a_language_model_is_neither_traced_nor_counted() -> None:
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 4, "num_attention_heads": 16}
    text = SMALL | {"model_type": "gemma3_text", "num_hidden_layers": 2, "head_dim": 128, "num_attention_heads": 16}
    raw = {"model_type": "gemma3", "text_config": text, "vision_config": vision}
    setup = _setup(raw)
    found = estimate_setup(shape_from_config(raw), setup)
    assert found.allocated_bytes == pytest.approx(_trace(raw, setup).allocated, rel=0.04)
    assert found.allocated_bytes == estimate_setup(shape_from_config(text), setup).allocated_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"row_tokens": 128},
        {"attention": "eager"},
        {"quantization": "none"},
        {"targets": frozenset({"q_proj", "v_proj"})},
        {"batch": 2, "masked": True, "attention": "efficient"},
    ],
    ids=lambda changes: ", ".join(changes) or "default",
)
def test_the_formula_knows_what_held_out_rows_take(changes: dict[str, Any]) -> None:
    setup = _setup(**changes)
    traced = _trace(SMALL, setup, TraceOptions(steps=1))
    (evaluation,) = [
        phase for phase in estimate_setup(shape_from_config(SMALL), setup).phases if phase.key == "evaluation"
    ]
    assert evaluation.allocated_bytes == pytest.approx(traced.peaks["evaluation"], rel=0.06)


def test_the_instant_totals_error_band_holds_the_trace() -> None:
    setup = _setup(batch=2, masked=True, attention="efficient", optimizer="paged_adamw_32bit")
    traced = _trace(SMALL, setup)
    found = estimate_setup(shape_from_config(SMALL), setup)
    assert found.reserved_bytes == pytest.approx(traced.reserved, rel=found.error_share)


def test_kinds_at_the_peak_add_up_to_it() -> None:
    traced = _trace(SMALL, _setup(loss="plain"))
    kinds = traced.kinds[traced.peak_phase]
    assert sum(kinds.values()) == traced.allocated
    assert kinds["logits"] > 500 * MIB
    assert kinds["weights"] == pytest.approx(
        estimate_setup(shape_from_config(SMALL), _setup()).component("weights"), rel=0.01
    )


def test_the_fused_head_saves_the_logits() -> None:
    assert _trace(SMALL, _setup()).allocated < 0.7 * _trace(SMALL, _setup(loss="plain")).allocated


def test_the_needless_cast_to_fp32_costs_what_it_was_said_to() -> None:
    frugal, cast = (_trace(SMALL, _setup(upcast=upcast)).allocated for upcast in (False, True))
    assert cast > 1.4 * frugal


@pytest.mark.parametrize("point", PATCH_POINTS, ids=lambda point: point.path)
def test_every_patch_point_is_where_the_tracer_expects_it(point: PatchPoint) -> None:
    assert callable(point.current())


@pytest.mark.parametrize(
    "point",
    [
        PatchPoint("trl.kernels.chunked_logprob", "renamed_upstream"),
        PatchPoint("trl.kernels.moved_upstream", "_forward_tile"),
        PatchPoint("trl.kernels.chunked_logprob", "_addmm_fp32", ("acc", "left", "right")),
    ],
    ids=["gone", "moved", "other parameters"],
)
def test_a_patch_point_that_changed_is_named(point: PatchPoint) -> None:
    with pytest.raises(TracerOutdated) as outdated, replaced({point: None}):
        pass
    assert point.path in outdated.value.message
    assert "trl 1." in outdated.value.message
    assert outdated.value.kind == "tracer_outdated"


def test_the_libraries_are_themselves_again_after_a_trace() -> None:
    before = [point.current() for point in PATCH_POINTS]
    _trace(SMALL | {"num_hidden_layers": 1}, _setup(row_tokens=32))
    assert [point.current() for point in PATCH_POINTS] == before


def _config(source: str, **values: Any) -> RunConfig:
    config = RunConfig().with_value("model.source", source).with_value("training.max_length", 256)
    for path, value in values.items():
        config = config.with_value(path.replace("__", "."), value)
    return config


def test_the_job_reports_an_estimate_and_finishes(tmp_path: Path) -> None:
    context = JobContext(RunFolder(tmp_path))
    job = EstimateJob(config=_config("HuggingFaceTB/SmolLM2-135M-Instruct"), gpu="RTX 3060")
    estimate_job.run(job, context)
    events = list(context.folder.events())
    context.close()
    (report,) = [event.report for event in events if isinstance(event, EstimateReported)]
    found = estimate_from_report(report)
    assert found.level == "traced"
    assert sum(component.bytes for component in found.components) == found.total_bytes
    assert {phase.key for phase in found.phases} == {"load", "forward", "backward", "optimizer", "evaluation"}
    assert {"tracing_forward", "tracing_backward"} <= {e.phase for e in events if isinstance(e, PhaseChanged)}


def test_the_starter_and_the_catalogue_describe_the_same_model() -> None:
    from_file, from_catalogue = (
        shape_from_config(estimate_job.model_config(source))
        for source in ("starter", "HuggingFaceTB/SmolLM2-135M-Instruct")
    )
    assert from_file == from_catalogue


def test_a_model_that_is_nowhere_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as refused:
        estimate_job.traced_estimate(_config("somebody/some-model"))
    assert refused.value.kind == "model_not_found"


def test_a_step_in_fp16_is_traced_with_adapters_in_fp32() -> None:
    options = replace(FAST, dtype=torch.float16, autocast=torch.float16)
    traced = _trace(SMALL, _setup(adapter_bytes=4, attention="efficient"), options)
    brain = _trace(SMALL, _setup(attention="efficient"))
    assert traced.allocated > brain.allocated


@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_formula_knows_what_experts_in_4_bit_take_while_they_are_unpacked(checkpointing: bool) -> None:
    setup = _setup(MIXTURE, checkpointing=checkpointing)
    traced = _trace(MIXTURE, setup)
    found = estimate_setup(shape_from_config(MIXTURE), setup, context_bytes=0)
    assert found.allocated_bytes == pytest.approx(max(traced.peaks.values()), rel=0.03)


@pytest.mark.parametrize("changes", [{}, {"checkpointing": False}, {"quantization": "none"}])
def test_the_formula_knows_what_adapters_on_experts_take(changes: dict[str, Any]) -> None:
    setup = _setup(MIXTURE, experts=True, **changes)
    traced = _trace(MIXTURE, setup)
    found = estimate_setup(shape_from_config(MIXTURE), setup, context_bytes=0)
    assert found.allocated_bytes == pytest.approx(max(traced.peaks.values()), rel=0.03)
