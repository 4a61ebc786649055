"""A base that bitsandbytes stored in 4 bits: trained as it is, merged into the original that it was made from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.job import MergeJob
from qlora_studio.core.run.reports import ExportFacts
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.export import merge_job
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.adapter import load_tuned
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.original import merge_base, require_fitting, with_stored_quantization
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import make_adapter, make_base, make_tokenizer
from tests.engine.stored_base import in_4_bits
from tests.engine.training_run import follow, make_run, run_to_end, tensors

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "Whole-1B"
    return make_tokenizer(make_base(folder, "llama", dtype=torch.bfloat16))


@pytest.fixture(scope="module")
def stored(original: Path) -> Path:
    return in_4_bits(original, original.parent / "Whole-1B-bnb-4bit")


@pytest.fixture
def in_hub_cache(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The original as the hub's cache holds it after a download."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--maker--Whole-1B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    shutil.copytree(original, repository / "snapshots" / "c0ffee")
    return "maker/Whole-1B"


@pytest.mark.slow
def test_it_is_trained_paused_resumed_merged_into_the_original_proved_and_asked(
    original: Path, stored: Path, tmp_path: Path
) -> None:
    before = tensors(stored / "model.safetensors")
    settings = [f"quantization.original={original}", "export.merge=true", "lora.rank=4", "training.max_length=256"]
    run = make_run(tmp_path, stored, *settings, rows=20)
    process = start_worker(run)
    follow(process, lambda event: getattr(event, "step", 0) >= 2 and event.type == "step_done")
    run.send(Pause())
    follow(process)
    assert run.state().phase is Phase.PAUSED
    state = run_to_end(run)
    assert state.phase is Phase.FINISHED, state.failure
    assert state.resumptions
    assert tensors(stored / "model.safetensors") == before
    [export] = run.exports_path.iterdir()
    report = json.loads((export / "verification.json").read_text())
    assert report["verified"], report
    config = json.loads((export / "config.json").read_text())
    assert "quantization_config" not in config
    facts = json.loads((export / "training" / "base.json").read_text())
    assert facts["source"] == "Whole-1B"
    assert divergence(export, original, run.adapter_path) < 1e-3  # the export is rounded to bf16
    model, _tokenizer = load_tuned(run, choose_device(run.config(), QUIET), "final", QUIET)
    assert isinstance(model.base_model.model.model.layers[0].mlp.up_proj.base_layer, Linear4bit)
    assert torch.isfinite(model(torch.arange(3, 40).reshape(1, -1)).logits).all()


def test_it_is_loaded_as_it_is_stored_and_computes_in_the_dtype_of_the_run(stored: Path) -> None:
    config = with_stored_quantization(RunConfig().with_value("quantization.method", "none"), stored)
    assert (config.quantization.method, config.quantization.double) == ("nf4", True)
    config = config.with_value("quantization.compute_dtype", "bfloat16")
    model = load_base(stored, config, choose_device(config, QUIET))
    layer = model.model.layers[1].mlp.up_proj
    assert layer.compute_dtype == torch.bfloat16
    name = "model.layers.1.mlp.up_proj.weight"
    assert layer.weight.data.numpy().tobytes() == tensors(stored / "model.safetensors")[name]


@pytest.mark.parametrize(("kind", "double"), [("nf4", True), ("nf4", False), ("fp4", True)])
def test_the_original_fits_what_was_made_from_it(original: Path, tmp_path: Path, kind: str, double: bool) -> None:
    stored = in_4_bits(original, tmp_path / "stored", kind=kind, double=double)
    require_fitting(stored, original)
    assert merge_base(str(stored), named=str(original)) == original


def finer_trained(folder: Path) -> None:
    """The same model after some training: every weight a little elsewhere."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))
    model.save_pretrained(folder)


def of_other_widths(folder: Path) -> None:
    make_base(folder, "llama", intermediate_size=128)


def of_other_names(folder: Path) -> None:
    make_base(folder, "gpt2")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (finer_trained, "of the weights are the same in 4 bits"),
        (of_other_widths, "has another shape"),
        (of_other_names, "they have no layer of one name"),
    ],
)
def test_another_model_is_not_taken_for_the_original(
    original: Path, stored: Path, tmp_path: Path, change: Callable[[Path], None], why: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(original, other)
    change(other)
    with pytest.raises(StudioError, match=why) as raised:
        merge_base(str(stored), named=str(other))
    assert raised.value.kind is FailureKind.FINGERPRINT_MISMATCH


@pytest.mark.slow
def test_an_adapter_from_elsewhere_that_names_such_a_base_is_merged_into_the_original(
    original: Path, stored: Path, tmp_path: Path, in_hub_cache: str
) -> None:
    named = tmp_path / "Whole-1B-bnb-4bit"
    shutil.copytree(stored, named)
    (named / "README.md").write_text(f"---\nbase_model: {in_hub_cache}\n---\n")
    adapter, out = make_adapter(tmp_path / "adapter", original), tmp_path / "out"
    (tmp_path / "job").mkdir()
    context = JobContext(RunFolder(tmp_path / "job"))
    facts = merge_job.run(MergeJob(base_model=str(named), adapter=str(adapter), out_dir=str(out)), context).facts
    assert isinstance(facts, ExportFacts) and facts.verified, facts
    assert json.loads((out / "training" / "base.json").read_text())["source"] == in_hub_cache
    assert divergence(out, original, adapter) < 1e-3


def test_a_run_without_a_known_original_is_refused_before_it_begins(stored: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, stored)
    failure = run_to_end(run).failure
    assert failure is not None and failure.kind is FailureKind.MODEL_REFUSED
    assert "nothing in it says which 16-bit model it was made from" in failure.message
    assert "quantization.original" in failure.advice


def divergence(merged: Path, original: Path, adapter: Path) -> float:
    """Return the mean KL divergence of a merged model from the adapter on the original, by peft."""
    ids = torch.arange(3, 120).reshape(1, -1)
    with torch.no_grad():
        one = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)(ids).logits.log_softmax(-1)
        base = AutoModelForCausalLM.from_pretrained(original, dtype=torch.float32)
        other = PeftModel.from_pretrained(base, str(adapter))(ids).logits.log_softmax(-1)
    return float((other.exp() * (other - one)).sum(-1).mean())
