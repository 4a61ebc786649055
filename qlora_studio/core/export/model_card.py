"""The model card: what a model was made of, in words. No path of this computer and no name of its user."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from xml.sax.saxutils import escape

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.source_facts import SourceFacts
from qlora_studio.core.quantity import count_text
from qlora_studio.core.run.named_places import renamed

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_LEARNED = {
    "assistant": "all answers",
    "last": "the last answer",
    "marked": "the answers marked to be learned",
    "all": "the full text",
}
_WIDTH, _HEIGHT, _EDGE = 640, 280, 44


@dataclass(frozen=True)
class CardFacts:
    """What a card tells beside the run config. Losses are mean nats per trained token."""

    title: str
    licence: str = ""
    training_rows: int = 0
    evaluation_rows: int = 0
    data_hash: str = ""
    sources: tuple[SourceFacts, ...] = ()
    steps: int = 0
    checkpoint: str = "final"
    loss_before: float | None = None
    loss_after: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: str = ""
    base_weights: str = "original"
    usage: tuple[tuple[str, str], ...] = ()
    parent: str = ""
    rounding: str = ""
    served: str = ""


def public_name(source: str) -> str:
    """Return a model's or dataset's name without any folder of this computer."""
    if _HUB_ID.fullmatch(source) and not source.startswith((".", "/")):
        return source
    return PureWindowsPath(PurePosixPath(source).name).name or "local"


def public_config(config: RunConfig) -> RunConfig:
    """Return the run config with every path cut down to its last part."""
    return renamed(config, lambda _, name: public_name(name) if name else "")


def model_card(config: RunConfig, facts: CardFacts, *, has_curve: bool) -> str:
    """Return the README.md of an export."""
    base = public_name(config.model.source)
    data = " and ".join(public_name(source.path) for source in config.data.sources)
    head = ["---", f"base_model: {_yaml(base)}", "library_name: transformers", "tags:", "- qlora", "- lora"]
    if facts.licence:
        head.append(f"license: {_yaml(facts.licence)}")
    body = [
        *head,
        "---",
        "",
        f"# {facts.title}",
        "",
        f"{base}, fine-tuned with QLoRA. Format: {facts.format or 'safetensors'}.",
        "",
        "## Data",
        "",
        f"- {data}: {facts.training_rows:,} rows for training, {facts.evaluation_rows:,} held out",
    ]
    body += [_source(source) for source in facts.sources if source.commit or len(facts.sources) > 1]
    if facts.data_hash:
        body.append(f"- sha256 `{facts.data_hash}`")
    body += ["", "## Training", "", *_table(_settings(config, facts)), ""]
    if has_curve:
        body += ["![Loss over the steps](loss.svg)", ""]
    body += ["## Evaluation", "", *_evaluation(facts), ""]
    if facts.usage:
        body += ["## Use", ""]
        for program, command in facts.usage:
            body += [f"{program}:", "", "```", command, "```", ""]
    if variables := config.data.template_variables:
        body += [*_variables(variables), ""]
    if facts.served:
        body += [facts.served, ""]
    if facts.versions:
        body += ["## Versions", "", *_table(list(facts.versions.items())), ""]
    return "\n".join(body)


def loss_picture(series: Sequence[tuple[int, float]], evaluations: Sequence[tuple[int, float]]) -> str:
    """Return an SVG with the loss of each step as a line, and the held-out loss as dots."""
    points = [*series, *evaluations]
    if not points:
        return ""
    last = max(1, *(step for step, _ in points))
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = (high - low) or 1.0

    def x(step: int) -> float:
        return _EDGE + (_WIDTH - 2 * _EDGE) * step / last

    def y(value: float) -> float:
        return _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (value - low) / span

    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in series)
    dots = "".join(
        f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="4" fill="#D55E00"/>' for step, value in evaluations
    )
    labels = "".join(
        f'<text x="{left}" y="{top:.1f}" font-size="12" fill="#555" text-anchor="{anchor}">{escape(text)}</text>'
        for left, top, anchor, text in (
            (_EDGE - 6, y(high) + 4, "end", f"{high:.2f}"),
            (_EDGE - 6, y(low) + 4, "end", f"{low:.2f}"),
            (_EDGE, _HEIGHT - 18, "start", "0"),
            (_WIDTH - _EDGE, _HEIGHT - 18, "end", f"{last} steps"),
            (_WIDTH // 2, 22, "middle", "loss: training (line), held-out (dots)"),
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f'<path d="M{_EDGE} {_EDGE}V{_HEIGHT - _EDGE}H{_WIDTH - _EDGE}" stroke="#bbb" fill="none"/>'
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="1.5"/>{dots}{labels}</svg>\n'
    )


def _settings(config: RunConfig, facts: CardFacts) -> list[tuple[str, Any]]:
    lora, training, quantization = config.lora, config.training, config.quantization
    kind = "DoRA" if lora.dora else "rsLoRA" if lora.rslora else "LoRA"
    base = (
        "16 bit" if quantization.method == "none" else quantization.method + (", double" if quantization.double else "")
    )
    return [
        *([("Goes on from", facts.parent)] if facts.parent else []),
        ("Adapter", f"{kind}, rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout:g}, {lora.target_modules}"),
        ("Base in training", base),
        ("Merged into", "the original 16-bit weights" if facts.base_weights == "original" else "the NF4 round trip"),
        *([("Rounded by", facts.rounding)] if facts.rounding else []),
        ("Steps", _steps(facts)),
        ("Effective batch", f"{config.effective_batch}"),
        ("Learning rate", f"{training.learning_rate:g}, {training.scheduler}"),
        ("Max length", f"{count_text(training.max_length)} tokens"),
        ("Loss on", _LEARNED[training.loss_on]),
        ("Seed", f"{training.seed}"),
        *([("Date in prompts", config.data.template_date)] if config.data.template_date else []),
    ]


def _variables(variables: Mapping[str, Any]) -> list[str]:
    """Return what to hand to the template wherever the model is served."""
    text = json.dumps(variables, ensure_ascii=False)
    given = ", ".join(f"{name}={value!r}" for name, value in variables.items())
    return [
        "The chat template was given these variables in training. Give them wherever the model is served; a Modelfile "
        "of Ollama has them in its template.",
        "",
        "```",
        f"transformers: tokenizer.apply_chat_template(messages, add_generation_prompt=True, {given})",
        f"llama-server: --chat-template-kwargs {shlex.quote(text)}",
        f'vLLM, in each request: "chat_template_kwargs": {text}',
        "```",
    ]


def _steps(facts: CardFacts) -> str:
    steps = f"{facts.steps:,}" if facts.steps else "-"
    return steps if facts.checkpoint == "final" else f"{steps} (an earlier checkpoint)"


def _evaluation(facts: CardFacts) -> list[str]:
    if facts.loss_before is None and facts.loss_after is None:
        return ["The held-out rows were not measured."]
    rows = [("Before training", facts.loss_before), ("After training", facts.loss_after)]
    return _table([(name, f"{value:.4f}") for name, value in rows if value is not None], ("Held-out rows", "Loss"))


def _table(rows: Sequence[tuple[str, Any]], head: tuple[str, str] = ("", "")) -> list[str]:
    return [f"| {head[0]} | {head[1]} |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def _source(source: SourceFacts) -> str:
    """Return the line of one dataset: its part of the run, and its commit on the hub."""
    parts = [f"weight {source.weight:g}"] if source.weight != 1 else []
    parts += [f"subset {source.subset}"] if source.subset not in ("", "default") else []
    parts += [f"split {source.split}"] if source.split and source.commit else []
    parts += [f"commit `{source.commit}`"] if source.commit else []
    named = f" ({', '.join(parts)})" if parts else ""
    return f"- {public_name(source.path)}{named}: {source.training:,} rows, {source.evaluation:,} held out"


def _yaml(text: str) -> str:
    return text if _HUB_ID.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
