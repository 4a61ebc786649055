"""Is an export right? Everything is read from its files again, and compared with the adapter it was made from."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.export_format import ExportFormat, parse_format
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine import measurement
from qlora_studio.engine.adapted_model import release_memory
from qlora_studio.engine.base_model import tokenizer_of
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export_companions import PROVENANCE, versions
from qlora_studio.engine.measurement import Rows, comparison_dtype, device_name
from qlora_studio.storage.export_folder import damages, read_manifest
from qlora_studio.storage.run_folder import RunFolder

# Mean KL divergence from the live adapter, in nats a token, and how far the held-out loss may rise, by precision.
# Measured on SmolLM2: bf16 0.0002, q8_0 0.0007, q4_K_M 0.05.
TOLERANCES: dict[str, tuple[float, float]] = {
    "fp32": (0.0001, 0.001),
    "bf16": (0.01, 0.02),
    "fp16": (0.01, 0.02),
    "f16": (0.01, 0.02),
    "q8_0": (0.02, 0.03),
    "q6_K": (0.05, 0.05),
    "q5_K_M": (0.1, 0.1),
    "q4_K_M": (0.3, 0.2),
    "q3_K_M": (0.8, 0.5),
}
# A greedy answer may turn elsewhere where two tokens are about as likely: by how much one may lead, by precision.
_MARGINS = {"fp32": 0.01, "bf16": 0.1, "fp16": 0.1, "f16": 0.1, "q8_0": 0.2}
_LARGEST_SHARE = 0.25  # of the adapter's own effect
_NO_EFFECT = 1e-7  # nats a token: an adapter that was hardly trained
_PROMPTS = ("Hello! Who are you?", "Write one sentence about the sea.", "What is 17 + 25?")
_ANSWER_TOKENS = 24
_TRICKY = [
    {"role": "user", "content": "  2 spaces, a tab\t, 12345.67 % and\n\nümlauts, 你好, 🙂 <b>&amp;</b>"},
    {"role": "assistant", "content": "It's `code`:\n    x = {'a': [1, 2]}"},
    {"role": "user", "content": "And <|im_end|>, </s>, [INST]?"},
]


@dataclass
class Verification:
    """What was found. Losses are mean nats per trained token of the held-out rows, None where not measured."""

    format: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    losses: dict[str, float | None] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(check["passed"] for check in self.checks)

    def add(self, name: str, passed: bool, message: str) -> None:
        """Add a check's outcome."""
        self.checks.append({"name": name, "passed": passed, "message": message})

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verified": self.verified,
            "format": self.format,
            "checks": self.checks,
            "losses": self.losses,
            "answers": self.answers,
            **self.facts,
        }


@dataclass(frozen=True)
class Subject:
    """An export with what it was made from."""

    folder: Path
    shape: ExportFormat
    run: RunFolder
    config: RunConfig
    base: Path
    adapter: Path
    checkpoint: str
    weights: str
    tokenizer: Any

    @property
    def precision(self) -> str:
        """The precision whose tolerance holds; plain safetensors and adapters are judged as 16 bit."""
        return self.shape.precision or "bf16"

    @property
    def gguf(self) -> Path:
        """Its GGUF file."""
        return next(self.folder.glob("*.gguf"))


class Verifier:
    """Verifies exports of one checkpoint of one run, one after another."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self.rows: Rows | None = None
        self.references: References | None = None

    def verify(self, subject: Subject) -> Verification:
        """Return what was found. Damaged files are not loaded."""
        began = time.monotonic()
        found = Verification(subject.shape.text)
        found.facts |= {"versions": versions(), "base_weights": subject.weights, "checkpoint": subject.checkpoint}
        check_files(subject.folder, found)
        if self.rows is None:
            self.rows = measurement.held_out_rows(
                subject.run, subject.config, tokenizer_of(subject.base), self._context
            )
        exported = exported_tokenizer(subject)
        check_tokenizer(subject, exported, self.rows, found)
        check_stop_token(subject, exported, self.rows, found)
        if subject.shape.kind != "gguf_adapter" and found.checks[0]["passed"]:
            if self.references is None:
                self.references = measure_references(subject, self.rows, self._context)
            compare_models(subject, self.rows, self.references, found)
            release_memory()
        found.facts |= {"tokens": self.rows.tokens, "seconds": time.monotonic() - began}
        return found


def check_files(folder: Path, found: Verification) -> None:
    """Every file is there, as long as it should be, with the hash it was written with."""
    broken = damages(folder)
    count = len(read_manifest(folder)["files"])
    found.add("files", not broken, "; ".join(broken[:3]) or f"All {count} files are as they were written.")
    kept = (folder / PROVENANCE / "run.toml").is_file() and (folder / PROVENANCE / "base.json").is_file()
    found.add(
        "provenance", kept, "Run config and base are kept beside it." if kept else "Run config or base is missing."
    )


def check_tokenizer(subject: Subject, exported: Any, rows: Rows, found: Verification) -> None:
    """The same conversation, and the held-out rows' own text, give the same ids as in training."""
    ours = subject.tokenizer
    if exported is None:
        found.add("tokenizer", subject.shape.kind == "gguf_adapter", "It uses the base's tokenizer.")
        return
    if ours.chat_template is None:
        found.add("template", exported.chat_template is None, "There is no chat template.")
    else:
        pair = [rendered_ids(tokenizer, _TRICKY) for tokenizer in (ours, exported)]
        found.add("template", pair[0] == pair[1], _difference(ours, pair, "The chat template gives the same ids."))
    texts = [ours.decode(ids) for ids, _ in rows.rows[:8]] + [turn["content"] for turn in _TRICKY]
    for text in texts:
        pair = [tokenizer(text, add_special_tokens=False).input_ids for tokenizer in (ours, exported)]
        if pair[0] != pair[1]:
            found.add("tokenizer", False, _difference(ours, pair, ""))
            return
    found.add("tokenizer", True, f"{len(texts)} texts give the same ids.")


def check_stop_token(subject: Subject, exported: Any, rows: Rows, found: Verification) -> None:
    """Answers can end: the end token is known to the export, and was trained where rows show it."""
    wanted = subject.tokenizer.eos_token_id
    known = stop_ids(subject, exported)
    if wanted is None or wanted not in known:
        found.add("stop token", False, f"The end token {wanted} is not among those that end an answer: {known}.")
        return
    labels = {label for _, row in rows.rows for label in row}
    if labels and not labels & set(known):
        found.add(
            "stop token", False, f"{subject.tokenizer.eos_token} never stands in a trained answer: it was not learned."
        )
        return
    trained = ", and it was trained" if labels else ""
    found.add("stop token", True, f"{subject.tokenizer.eos_token} ends an answer{trained}.")


def compare_models(subject: Subject, rows: Rows, references: "References", found: Verification) -> None:
    """Hold the export against the unmerged adapter on the base that it was merged into."""
    reference = references.plain if subject.weights == "original" else references.trained
    model = _exported_model(subject)
    loss = measurement.loss_of(model, rows)
    name = "gguf" if subject.shape.kind in ("gguf", "ollama") else "merged"
    found.losses = {
        "base": references.base_loss,
        "adapter": references.trained.loss,
        "adapter on 16 bit": references.plain.loss,
        name: loss,
    }
    other = measurement.distributions(model, references.sequences)
    divergence = measurement.divergence(reference.log_probabilities, other)
    _check_divergence(subject, divergence, found)
    effect = measurement.divergence(reference.log_probabilities, references.base_log_probabilities)
    _check_adapter(subject, divergence, effect, found)
    _check_loss(subject, loss, reference.loss, found)
    _check_answers(subject, model, references, reference.answers, found)


@dataclass(frozen=True)
class Reference:
    """What an export is compared with: loss, log-probabilities (positions, vocabulary), and greedy answers."""

    loss: float | None
    log_probabilities: torch.Tensor
    answers: list[list[int]]


@dataclass(frozen=True)
class References:
    """The adapter as trained, and unmerged on the original base: measured once for all exports of a job.

    `live` are the log-probabilities as trained on the held-out rows alone, None where there are none.
    """

    prompts: list[list[int]]
    sequences: list[list[int]]
    stops: list[int]
    trained: Reference
    plain: Reference
    base_loss: float | None
    base_log_probabilities: torch.Tensor
    live: torch.Tensor | None


def measure_references(subject: Subject, rows: Rows, context: JobContext) -> References:
    """Load the two, one after another, and measure them."""
    prompts = [rendered_ids(subject.tokenizer, [{"role": "user", "content": text}], opening=True) for text in _PROMPTS]
    sequences = [*prompts, *(list(ids) for ids, _ in rows.rows)]
    stops = [] if subject.tokenizer.eos_token_id is None else [int(subject.tokenizer.eos_token_id)]

    def measured(model: Any) -> Reference:
        answers = [measurement.greedy(model, prompt, stops, tokens=_ANSWER_TOKENS) for prompt in prompts]
        return Reference(measurement.loss_of(model, rows), measurement.distributions(model, sequences), answers)

    model = _as_trained(subject, context)
    trained = measured(model)
    live = measurement.distributions(model, [ids for ids, _ in rows.rows]) if rows.rows else None
    del model
    release_memory()
    context.raise_if_stopped()
    model = _unmerged(subject)
    plain = measured(model)
    with model.disable_adapter():
        base_loss = measurement.loss_of(model, rows)
        base_log_probabilities = measurement.distributions(model, sequences)
    del model
    release_memory()
    context.raise_if_stopped()
    return References(prompts, sequences, stops, trained, plain, base_loss, base_log_probabilities, live)


def _check_divergence(subject: Subject, value: float, found: Verification) -> None:
    limit, _ = TOLERANCES[subject.precision]
    text = f"{value:.2g} nats a token from the live adapter; at most {limit:g} for {subject.precision}."
    found.facts["divergence"] = value
    found.add("logits", value <= limit, text)


def _check_adapter(subject: Subject, divergence: float, effect: float, found: Verification) -> None:
    """What was learned is in it: the export is much nearer to the adapter than the base is.

    A small adapter and a forgotten one would both pass a fixed limit. Coarse quantizations may err by more than a small
    adapter does; their loss and answers say what they are worth.
    """
    if subject.precision not in _MARGINS:
        return
    passed = divergence <= effect * _LARGEST_SHARE or effect < _NO_EFFECT
    text = f"The adapter moves the base by {effect:.2g} nats a token; the export is {divergence:.2g} from there."
    found.add("adapter", passed, text)


def _check_loss(subject: Subject, loss: float | None, expected: float | None, found: Verification) -> None:
    if loss is None or expected is None:
        return
    _, limit = TOLERANCES[subject.precision]
    text = f"Held-out loss {loss:.4f}; the unmerged adapter has {expected:.4f}; at most {limit:g} more is allowed."
    found.add("held-out loss", loss <= expected + limit, text)


def _check_answers(
    subject: Subject,
    export: Any,
    references: References,
    answers: list[list[int]],
    found: Verification,
) -> None:
    """The same greedy answers; another one only where two tokens were about as likely, and shown."""
    limit, worst = _MARGINS.get(subject.precision, 1.0), 0.0
    decode = subject.tokenizer.decode
    same = 0
    for text, prompt, answer in zip(_PROMPTS, references.prompts, answers, strict=True):
        other = measurement.greedy(export, prompt, references.stops, tokens=_ANSWER_TOKENS)
        entry = {"prompt": text, "adapter": decode(answer), "export": decode(other), "same": answer == other}
        if answer == other:
            same += 1
        else:
            first = next((i for i, pair in enumerate(zip(answer, other, strict=False)) if pair[0] != pair[1]), 0)
            lead = measurement.margin(export, [*prompt, *answer[:first]])
            entry |= {"first_difference": first, "lead": lead}
            worst = max(worst, lead)
        found.answers.append(entry)
    text = f"{same} of {len(answers)} greedy answers are the same"
    text += "." if same == len(answers) else f"; the others part where one token leads by {worst:.2g} of probability."
    found.add("answers", worst <= limit, text)


def rendered_ids(tokenizer: Any, messages: list[dict[str, str]], *, opening: bool = False) -> list[int]:
    """Return a conversation's ids by a tokenizer's own template; plain text where it has none."""
    if tokenizer.chat_template is None:
        return list(tokenizer("\n".join(turn["content"] for turn in messages)).input_ids)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def exported_tokenizer(subject: Subject) -> Any:
    """Return the tokenizer that the export itself carries; None for one that carries none."""
    from qlora_studio.engine.gguf_reading import load_gguf_tokenizer

    if subject.shape.kind == "gguf_adapter":
        return None
    if subject.shape.kind in ("gguf", "ollama"):
        return load_gguf_tokenizer(subject.gguf)
    return tokenizer_of(subject.folder)


def stop_ids(subject: Subject, exported: Any) -> list[int]:
    """Return the ids that end an answer, by the export's own files."""
    path = subject.folder / "generation_config.json"
    ids: list[int] = []
    if path.is_file():
        configured = json.loads(path.read_text("utf-8")).get("eos_token_id")
        ids += configured if isinstance(configured, list) else [] if configured is None else [configured]
    elif exported is not None and exported.eos_token_id is not None:
        ids.append(int(exported.eos_token_id))
    elif subject.tokenizer.eos_token_id is not None:
        ids.append(int(subject.tokenizer.eos_token_id))
    return ids


def _as_trained(subject: Subject, context: JobContext) -> Any:
    """The adapter on the base as it was trained: quantized, unmerged."""
    from qlora_studio.engine.device import choose_device
    from qlora_studio.engine.saved_adapter import load_tuned

    device = choose_device(subject.config, context)
    return load_tuned(subject.run, device, subject.checkpoint, context)[0]


def _unmerged(subject: Subject) -> Any:
    """The adapter on the original base, unmerged."""
    from qlora_studio.engine.model_loading import load_with_adapter

    return load_with_adapter(subject.base, subject.adapter, dtype=_dtype(subject), device=device_name())


def _exported_model(subject: Subject) -> Any:
    from qlora_studio.engine.gguf_reading import load_gguf
    from qlora_studio.engine.model_loading import load_plain, load_with_adapter

    dtype, device = _dtype(subject), device_name()
    if subject.shape.kind == "adapter":
        return load_with_adapter(subject.base, subject.folder, dtype=dtype, device=device)
    if subject.shape.kind in ("gguf", "ollama"):
        return load_gguf(subject.gguf, subject.base, dtype=dtype, device=device)
    return load_plain(subject.folder, dtype=dtype, device=device)


def _dtype(subject: Subject) -> torch.dtype:
    size = sum(path.stat().st_size for path in subject.base.glob("*.safetensors"))
    return comparison_dtype(size // 2)


def _difference(tokenizer: Any, pair: list[list[int]], same: str) -> str:
    if pair[0] == pair[1]:
        return same
    place = next((i for i, ids in enumerate(zip(*pair, strict=False)) if ids[0] != ids[1]), min(map(len, pair)))
    before = tokenizer.decode(pair[0][max(0, place - 4) : place + 4])
    return f"Other ids from token {place} on, near {before!r}."


def subject_of(folder: Path, run: RunFolder, context: JobContext) -> Subject:
    """Return an export with what it was made from. Raises StudioError where something of it is gone."""
    from qlora_studio.engine.base_model import base_folder
    from qlora_studio.engine.saved_adapter import adapter_folder

    manifest = read_manifest(folder)
    config = run.config()
    base = base_folder(config.model.source, config.model.revision, context)
    checkpoint = str(manifest.get("checkpoint", "final"))
    adapter = adapter_folder(run, checkpoint)
    places = (adapter, run.adapter_path, base)
    tokenizer = tokenizer_of(next(place for place in places if (place / "tokenizer_config.json").is_file()))
    return Subject(
        folder=folder,
        shape=parse_format(str(manifest["format"])),
        run=run,
        config=config,
        base=base,
        adapter=adapter,
        checkpoint=checkpoint,
        weights=str(manifest.get("base_weights", "original")),
        tokenizer=tokenizer,
    )
