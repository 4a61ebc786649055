"""Mixtures of experts with the defaults: trained as plain trl trains them, and from Start to a verified export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
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
from qlora_studio.engine.model.experts import tell_number_of_experts
from qlora_studio.engine.model.generation import answer
from qlora_studio.engine.training.setup import arguments, build_trainer
from qlora_studio.jobs.worker_process import start_worker
from tests.engine.mixtures import EACH, make_mixture
from tests.engine.model.test_expert_adapters import unpacked
from tests.engine.training_run import final_weights, follow, make_run, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_STACKED = ("mixtral", "olmoe", "granitemoe", "gpt_oss")  # whose attention has the usual names
_FP32 = "quantization.compute_dtype=float32"
_SHORT = ("training.max_steps=2", "checkpoint.every_steps=0", "evaluation.every_steps=0")


@pytest.mark.parametrize("family", EACH)
def test_a_mixture_learns_what_plain_trl_learns(family: str, tmp_path: Path) -> None:
    """With the loss that keeps experts evenly used, where trl adds it; our held-out loss is that of tokens alone."""
    base = make_mixture(tmp_path / "base", family)
    run = _Twins(tmp_path, base, _FP32, "lora.dropout=0")  # which is drawn by batches; ours are sorted by length

    def model() -> Any:
        set_seed(run.config.training.seed)
        return attach_adapters(load_base(base, run.config, run.device), run.config)

    ours, plain = run.ours(model()), run.plain(model())
    assert ours.aux_loss_enabled is (plain.aux_loss_enabled and plain.router_aux_loss_coef > 0)
    assert ours.evaluate()["eval_loss"] == pytest.approx(_loss_of_tokens(plain), rel=1e-5)
    run.train(ours)
    run.train(plain)
    assert run.told() == pytest.approx(_logged(plain), rel=1e-5)
    assert ours.evaluate()["eval_loss"] == pytest.approx(_loss_of_tokens(plain), rel=1e-5)


@pytest.mark.parametrize("family", ["qwen3_moe", *(pytest.param(name, marks=pytest.mark.slow) for name in _STACKED)])
def test_adapters_on_experts_in_4_bit_learn_what_plain_trl_learns_on_the_unpacked_ones(
    family: str, tmp_path: Path
) -> None:
    base = make_mixture(tmp_path / "base", family)
    run = _Twins(tmp_path, base, "lora.experts=true", _FP32)
    packed = load_base(base, run.config, run.device)
    set_seed(run.config.training.seed)
    ours = run.ours(attach_adapters(packed, run.config))
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=run.config.lora.rank,
        lora_alpha=run.config.lora.alpha,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
    )
    model = unpacked(base)
    tell_number_of_experts(model)
    set_seed(run.config.training.seed)
    adapted = get_peft_model(model, lora)
    cast_adapters(adapted, torch.bfloat16)  # as trl does on a base in 4 bit; build_trainer gives their dtype back
    plain = run.plain(adapted)
    run.train(ours)
    run.train(plain)
    assert run.told() == pytest.approx(_logged(plain), rel=1e-5)
    assert run.norms() == pytest.approx([entry["grad_norm"] for entry in plain.state.log_history if "loss" in entry])
    base_run = _Twins(tmp_path / "plain16", base, "lora.experts=true", _FP32, "quantization.method=none")
    original = load_base(base, base_run.config, run.device)
    set_seed(run.config.training.seed)
    whole = base_run.ours(attach_adapters(original, base_run.config))
    base_run.train(whole)
    assert run.told() == pytest.approx(base_run.told(), rel=0.02)
    assert run.norms() == pytest.approx(base_run.norms(), rel=0.2)


class _Twins:
    """A run's trainer, and the plain one with the same rows and arguments."""

    def __init__(self, place: Path, base: Path, *settings: str) -> None:
        self.folder = make_run(place, base, *_SHORT, "training.warmup_ratio=0", *settings)
        self._place, self._context = place, JobContext(self.folder)
        self.config = self.folder.config()
        self._tokenizer = tokenizer_of(base)
        self._data: Any = prepare_datasets(self.config, self._tokenizer, self.folder, self._context)
        self.device = choose_device(self.config, self._context)

    def ours(self, model: Any) -> Any:
        return build_trainer(
            model=model,
            tokenizer=self._tokenizer,
            training=self._data.training,
            evaluation=self._data.evaluation,
            config=self.config,
            device=self.device,
            context=self._context,
            made_from=Fingerprints(),
        )

    def plain(self, model: Any) -> Any:
        settings = arguments(self.config, self.device, str(self._place / "plain"))
        settings.per_device_eval_batch_size = 100  # the plain trainer means over batches, we over tokens
        found: Any = SFTTrainer(
            model=model,
            args=settings,
            train_dataset=self._data.training.remove_columns("row"),
            eval_dataset=self._data.evaluation.remove_columns("row"),
            processing_class=self._tokenizer,
            data_collator=collator(self._tokenizer),
        )
        cast_adapters(found.model, self.device.adapter_dtype)
        return found

    def train(self, trainer: Any) -> None:
        """Train with the same draws of dropout and jitter for both."""
        set_seed(self.config.training.seed)
        trainer.train()

    def told(self) -> list[float | None]:
        return [event.loss for event in self.folder.events() if isinstance(event, StepDone)]

    def norms(self) -> list[float | None]:
        return [event.gradient_norm for event in self.folder.events() if isinstance(event, StepDone)]


def _logged(plain: Any) -> list[float]:
    return [entry["loss"] for entry in plain.state.log_history if "loss" in entry]


def _loss_of_tokens(plain: Any) -> float:
    """Return the plain trainer's held-out loss without what it adds to keep experts evenly used."""
    metrics = plain.evaluate()
    balance = plain.router_aux_loss_coef * metrics["eval_aux_loss"] if plain.aux_loss_enabled else 0.0
    return float(metrics["eval_loss"] - balance)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        pytest.param("qwen3_moe", (), marks=pytest.mark.slow),
        pytest.param("mixtral", (), marks=pytest.mark.slow),
        pytest.param("deepseek_v3", (), marks=pytest.mark.slow),
        pytest.param("qwen3_moe", ("lora.experts=true",), marks=pytest.mark.slow),
    ],
)
def test_a_mixture_gets_from_start_to_a_verified_export(family: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family, dtype=torch.bfloat16)
    folder = make_run(tmp_path, base, *_SHORT, "export.merge=true", "training.max_length=256", *settings)
    state = run_to_end(folder)
    assert state.phase is Phase.FINISHED, state.failure
    events = list(folder.events())
    assert [event.loss is not None for event in events if isinstance(event, Evaluated)][:1] == [True]
    reports = [event.report for event in events if isinstance(event, VerificationReported)]
    assert [report.verified for report in reports] == [True], reports
    config = folder.config()
    model, tokenizer = load_tuned(folder, choose_device(config, QUIET), "final", QUIET)
    assert isinstance(answer(model, tokenizer, [{"role": "user", "content": "hello"}], max_new_tokens=3), str)


@pytest.mark.slow
@pytest.mark.parametrize("experts", [False, True])
def test_a_killed_run_of_a_mixture_is_resumed_bit_for_bit(experts: bool, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "deepseek_v3")  # dense layers, shared experts, routed experts
    settings = ("training.max_steps=6", "evaluation.every_steps=0", f"lora.experts={str(experts).lower()}")
    undisturbed = make_run(tmp_path / "undisturbed", base, *settings)
    assert run_to_end(undisturbed).phase is Phase.FINISHED
    folder = make_run(tmp_path / "killed", base, *settings)
    process = start_worker(folder)
    follow(process, lambda event: isinstance(event, StepDone) and event.step == 3)
    process.kill()
    process.wait(10)
    state = run_to_end(folder)
    assert (state.phase, state.resumptions) == (Phase.FINISHED, (2,)), state.failure
    weights = final_weights(folder)
    assert weights == final_weights(undisturbed)
    assert any("shared_experts.down_proj" in name for name in weights)
    assert any(".experts.lora_B" in name for name in weights) is experts
