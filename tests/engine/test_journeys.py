"""The models that people start from now, tiny: trained, killed, resumed, exported, verified, asked, and compared."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Ask, Stop
from qlora_studio.core.run.events import CheckpointSaved, TextGenerated
from qlora_studio.core.run.job import ChatJob, ExportJob
from qlora_studio.core.run.reports import VerificationReport, VerificationReported
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.loading import load_plain, load_with_adapter
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from tests.engine.families import logits, make_base, make_tokenizer
from tests.engine.mixtures import make_mixture
from tests.engine.tiny_families import save_tiny
from tests.engine.training_run import follow, make_run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
_WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512}  # so that rows hold whole blocks of a k-quant
_SETTINGS = (
    "training.max_steps=6",
    "training.max_length=128",
    "training.learning_rate=2e-2",
    "evaluation.every_steps=0",
)
_FORMATS = ["safetensors", "gguf:q8_0", "gguf:q4_K_M"]
_CLOSE = 1e-5  # nats a token, in fp32


def _wrapper(family: str, **more: Any) -> Callable[[Path], Path]:
    return lambda folder: make_tokenizer(make_base(folder, family, **_WIDE, **more))


def _mixture(family: str, **more: Any) -> Callable[[Path], Path]:
    return lambda folder: make_mixture(folder, family, **_WIDE, **more)


def _plain(model_type: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_tiny(model_type, folder)
        return make_tokenizer(folder)

    return make


_TURNED = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25, "mrope_section": [3, 3, 2]}
JOURNEYS: dict[str, Callable[[Path], Path]] = {
    "Qwen3.5": _wrapper("qwen3_5_wrapper", head_dim=64, rope_parameters=_TURNED),
    "Gemma 3": _wrapper("gemma3_wrapper"),
    "Gemma 4": _wrapper("gemma4_wrapper"),
    "Mistral 3": _wrapper("mistral3_wrapper"),
    "gpt-oss": _mixture("gpt_oss"),
    "Qwen3-MoE": _mixture("qwen3_moe", norm_topk_prob=True),
    "Mixtral": _mixture("mixtral"),
    "OLMoE": _mixture("olmoe", num_key_value_heads=4),
    "Granite 4": _plain("granitemoehybrid"),
    "LFM2": _plain("lfm2"),
}


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_family_of_today_goes_all_the_way(name: str, tmp_path: Path) -> None:
    base = JOURNEYS[name](tmp_path / "base")
    run = make_run(tmp_path / "runs", base, *_SETTINGS, rows=24)
    _train_killed_once(run)
    reports = _exported(run)
    assert [(report.format, report.verified) for report in reports] == [(shape, True) for shape in _FORMATS]
    assert set(_answers(run, tmp_path / "jobs")) == {"base", "tuned", "merged", "gguf"}
    effect, divergence = _divergences(run, base)
    assert divergence <= min(_CLOSE, effect / 10)


def _train_killed_once(run: RunFolder) -> None:
    """Kill the worker after its first checkpoint, and go on."""
    process = start_worker(run)
    events = follow(process, lambda event: isinstance(event, CheckpointSaved))
    assert isinstance(events[-1], CheckpointSaved), run.state().failure
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    follow(start_worker(run))
    assert run.state().phase is Phase.FINISHED, run.state().failure


def _exported(run: RunFolder) -> list[VerificationReport]:
    job = create_job_folder(run.jobs_path, ExportJob(run_dir=str(run.path), formats=_FORMATS, checkpoint="final"))
    events = follow(start_worker(job))
    assert job.state().failure is None, job.state().failure
    return [event.report for event in events if isinstance(event, VerificationReported)]


def _answers(run: RunFolder, jobs: Path) -> dict[str, str]:
    folder = create_job_folder(jobs, ChatJob(run_dir=str(run.path), checkpoint="final"))
    process = start_worker(folder)
    variants = ["base", "tuned", "merged", "gguf"]
    question = [{"role": "user", "content": "What is 3 + 3?"}]
    folder.send(Ask(request=1, messages=question, variants=variants, max_new_tokens=12, temperature=0))
    events = follow(process, lambda event: isinstance(event, TextGenerated) and event.done and event.variant == "gguf")
    folder.send(Stop())
    follow(process)
    assert folder.state().failure is None, folder.state().failure
    pieces = [event for event in events if isinstance(event, TextGenerated)]
    return {name: "".join(piece.text for piece in pieces if piece.variant == name) for name in variants}


def _divergences(run: RunFolder, base: Path) -> tuple[float, float]:
    """The mean KL divergences of the base and of the merged model from the live adapter, nats a token, in fp32."""
    merged = Path(export_run(run, formats=["safetensors:fp32"], checkpoint="final", channel=QUIET)[0].path)
    live = _scores(load_with_adapter(base, run.adapter_path, dtype=torch.float32, device="cpu"))
    others = [_scores(load_plain(folder, dtype=torch.float32, device="cpu")) for folder in (base, merged)]
    effect, divergence = (float((live.exp() * (live - other)).sum(-1).mean()) for other in others)
    return effect, divergence


def _scores(model: Any) -> torch.Tensor:
    return torch.log_softmax(logits(model).double(), -1)
