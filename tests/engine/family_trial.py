"""One family on a tiny random model: trained by the program's own job, merged, loaded again, compared."""

import dataclasses
import re
import traceback
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.gguf_family import GGUF_FAMILIES
from qlora_studio.core.run.job import TrainJob
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.model.loading import load_plain, load_with_adapter
from qlora_studio.engine.model.rehearsal import merge_rehearsal
from qlora_studio.engine.training import job as training
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.engine.families import logits, make_tokenizer
from tests.engine.tiny_families import NO_TEXT, save_tiny
from tests.engine.training_run import write_rows

Verdict = Literal["works", "refused", "fails", "not tried"]
SETTINGS = (
    "lora.rank=4",
    "training.max_steps=2",
    "training.batch_size=2",
    "training.gradient_accumulation=1",
    "training.max_length=64",
    "training.gradient_checkpointing=on",
    "training.learning_rate=5e-2",
    "evaluation.every_steps=0",
    "quantization.compute_dtype=float32",
    "export.merge=false",
)
_CLOSE = 1e-5  # nats a token, in fp32


@dataclasses.dataclass
class Outcome:
    """What came of a family. `plain` says what transformers and peft alone do with it, where it does not work here."""

    model_type: str
    architecture: str = ""
    verdict: Verdict = "fails"
    stage: str = "built"
    reason: str = ""
    packed: bool = True
    divergence: float | None = None
    effect: float | None = None
    gguf: str = ""
    plain: str = ""
    trace: str = dataclasses.field(default="", repr=False)


def make_parts(folder: Path) -> Path:
    """Make what all families share, once: a tokenizer with its template, and rows."""
    make_tokenizer(folder / "tokenizer")
    write_rows(folder / "rows.jsonl", 12)
    return folder


def today() -> str:
    """Return the day and the versions of what is tried."""
    versions = (f"{name} {version(name)}" for name in ("transformers", "peft", "trl", "bitsandbytes", "torch"))
    return f"{date.today()} with {', '.join(versions)}"


def try_family(model_type: str, parts: Path, folder: Path) -> Outcome:
    """Take a family all the way, as far as it goes."""
    outcome = Outcome(model_type)
    base = folder / "base"
    if model_type in NO_TEXT:
        outcome.verdict, outcome.reason = "not tried", NO_TEXT[model_type]
        return outcome
    try:
        outcome.architecture = save_tiny(model_type, base).__name__
    except Exception as error:  # noqa: BLE001  the shrinker or transformers itself; nothing of ours was asked yet
        outcome.verdict, outcome.reason = "not tried", f"no small one could be built: {_one_line(str(error))}"
        return outcome
    try:
        for file in (parts / "tokenizer").iterdir():
            (base / file.name).write_bytes(file.read_bytes())
        run = _trained(outcome, base, parts, folder)
        _compare(outcome, base, run)
        _try_gguf(outcome, base, run)
        outcome.verdict = "works"
    except StudioError as error:
        is_early = outcome.stage == "trained" and not _has_begun(folder)
        outcome.verdict = "refused" if is_early else "fails"
        outcome.reason, outcome.trace = _words(error), traceback.format_exc()
    except Exception as error:  # noqa: BLE001  whatever it was, it is this family's verdict
        outcome.reason, outcome.trace = f"{type(error).__name__}: {_one_line(str(error))}", traceback.format_exc()
    if outcome.verdict != "works":
        outcome.plain = _plain(base)
    return outcome


def _trained(outcome: Outcome, base: Path, parts: Path, folder: Path) -> RunFolder:
    """Train in packs, or without where the model does not keep a pack's rows apart."""
    outcome.stage = "trained"
    merge_rehearsal(base, from_mapping({"model": {"source": str(base)}}))  # which a run with the defaults asks first
    try:
        return _train(base, parts, folder / "packed", "training.packing=true")
    except StudioError as error:
        if "rows of a pack apart" not in error.message:
            raise
        outcome.packed = False
        return _train(base, parts, folder / "single", "training.packing=false")


def _train(base: Path, parts: Path, runs: Path, *settings: str) -> RunFolder:
    runs.mkdir()
    mapping = {"model": {"source": str(base)}, "data": {"path": str(parts / "rows.jsonl")}}
    run = create_run_folder(runs, from_mapping(mapping, [*SETTINGS, *settings]))
    context = JobContext(run)
    try:
        training.run(TrainJob(), context)
    finally:
        context.close()
    return run


def _compare(outcome: Outcome, base: Path, run: RunFolder) -> None:
    """Hold the merged model against base and adapter, in fp32."""
    outcome.stage = "merged"
    export_run(run, formats=["safetensors:fp32"], channel=QUIET)
    outcome.stage = "compared"
    plain = _scores(load_plain(base, dtype=torch.float32, device="cpu"))
    live = _scores(load_with_adapter(base, run.adapter_path, dtype=torch.float32, device="cpu"))
    merged = _scores(load_plain(next(run.exports_path.iterdir()), dtype=torch.float32, device="cpu"))
    outcome.effect, outcome.divergence = _divergence(live, plain), _divergence(live, merged)
    near = min(_CLOSE, outcome.effect / 10)  # where an adapter does little, it must be met the better
    assert outcome.divergence <= near, f"the merged model is not the adapter (KL {outcome.divergence:.1e})"


def _try_gguf(outcome: Outcome, base: Path, run: RunFolder) -> None:
    traits = GGUF_FAMILIES.get(outcome.model_type)
    if traits is None:
        return
    outcome.stage = "gguf"
    try:
        exported = export_run(run, formats=["gguf:f16"], channel=QUIET)[0]
    except StudioError as error:
        outcome.gguf = f"refused: {_one_line(error.message)}"
        return
    file = next(Path(exported.path).glob("*.gguf"))
    live = _scores(load_with_adapter(base, run.adapter_path, dtype=torch.float32, device="cpu"))
    found = _divergence(live, _scores(load_gguf(file, base, dtype=torch.float32)))
    outcome.gguf = f"{found:.0e}"


def _scores(model: Any) -> torch.Tensor:
    model.config.use_cache = False  # a cache of layers without attention has no length
    return torch.log_softmax(logits(model).double(), -1)


def _divergence(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first.exp() * (first - second)).sum(-1).mean())


def _plain(base: Path) -> str:
    """Train two steps with transformers and peft alone, in 16 bit; return "trains", or why not."""
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        model.config.use_cache = False
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        ids = torch.arange(3, 27).reshape(2, -1)
        for _ in range(2):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return "trains" if bool(torch.isfinite(loss)) else "trains to NaN"
    except Exception as error:  # noqa: BLE001  as above
        return f"{type(error).__name__}: {_one_line(str(error))}"


def _has_begun(folder: Path) -> bool:
    return any('"training_started"' in path.read_text("utf-8") for path in folder.glob("*/*/events.jsonl"))


def _words(error: StudioError) -> str:
    detail = f" ({_one_line(error.detail)})" if error.detail else ""
    return error.message + detail


def _one_line(text: str) -> str:
    line = " ".join(re.sub(r"/\S*/", "", text).split())
    return line if len(line) <= 160 else f"{line[:157]}..."
