"""Does an export compute what the adapter computes? Loss, distributions and answers, beside the adapter's."""

from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.reports import EndsReport
from qlora_studio.engine.gguf.llama_cpp import has_llama_cpp
from qlora_studio.engine.gguf.llama_cpp_process import logits_of_llama_cpp
from qlora_studio.engine.templates.stop_tokens import stop_token_ids
from qlora_studio.engine.verification import measurement
from qlora_studio.engine.verification.answers import (
    ASKED_IN,
    MARGINS,
    Answers,
    check_agreement,
    check_answers,
    greedy_answers,
)
from qlora_studio.engine.verification.comparison import Batch, Outcome, compare
from qlora_studio.engine.verification.ended_answers import EndedAnswer, ended_answers
from qlora_studio.engine.verification.measurement import Rows, mean_loss
from qlora_studio.engine.verification.passes import Passes, as_trained, exported, unmerged
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.subject import Subject
from qlora_studio.engine.verification.way import Way

# Mean KL divergence from the live adapter, in nats a token, and how far the held-out loss may rise, by precision.
# Measured on SmolLM2 after 24 steps, computed in fp32: bf16 0.0007, q8_0 0.0032, q4_K_M 0.087.
TOLERANCES: dict[str, tuple[float, float]] = {
    "fp32": (0.0001, 0.001),
    "bf16": (0.01, 0.02),
    "fp16": (0.01, 0.02),
    "f16": (0.01, 0.02),
    "q8_0": (0.02, 0.03),
    "q6_K": (0.05, 0.05),
    "q5_K_M": (0.1, 0.1),
    "q5_K_S": (0.1, 0.1),
    "q4_K_M": (0.3, 0.2),
    "q4_K_S": (0.35, 0.25),
    "q3_K_M": (0.8, 0.5),
}
_LARGEST_SHARE = 0.25  # of the adapter's own effect
_NO_EFFECT = 1e-7  # nats a token: an adapter that was hardly trained
_SMALL_EFFECT = 0.02  # nats a token: a few steps of training
_OF_WHOLE = ("answers", "llama.cpp")  # checks of a model that was loaded whole: told after the others
# llama.cpp rounds what flows between weights to 16 or 8 bit. On SmolLM2: bf16 0.0001, q8_0 0.0035, q4_K_M 0.007.
_LLAMA_CPP_LIMITS = {"bf16": 0.005, "f16": 0.005, "q8_0": 0.01}
_LLAMA_CPP_LIMIT = 0.03  # of coarser ones
_LLAMA_CPP_TOKENS = 48


@dataclass(frozen=True)
class Reference:
    """What an export is compared with: a model's states, its loss, how far the base is, and its greedy answers.

    There are no answers where it was streamed, and cannot be loaded whole beside that.
    """

    outcome: Outcome
    loss: float | None
    effect: float
    answers: Answers | None


@dataclass(frozen=True)
class References:
    """The adapter as trained, and unmerged on the original base: measured once for all exports of a job."""

    prompts: list[list[int]]
    stops: list[int]
    batches: list[Batch]
    sequences: int
    trained: Reference
    plain: Reference
    base_loss: float | None
    ends_before: list[float]
    ends_after: list[float]
    asked: list[EndedAnswer]


def measure_references(subject: Subject, prompts: list[list[int]], rows: Rows, passes: Passes, way: Way) -> References:
    """Run the two, one after another. An adapter made elsewhere was trained nobody knows how."""
    stops = [] if subject.tokenizer is None else stop_token_ids(subject.tokenizer)

    def answers(model: Any) -> Answers:
        return greedy_answers(model, prompts, stops)

    trained = None
    if subject.run is not None:
        trained = passes.run(as_trained(subject, passes.channel), ask=answers)
    item = unmerged(subject.base, subject.adapter, dtype=way.dtype, device=way.device)
    plain = passes.run(item, flags=(True, False), ask=answers)
    trained = trained or plain
    if plain.asked is None and way.asks:
        whole = unmerged(subject.base, subject.adapter, dtype=ASKED_IN, device="cpu")
        plain = replace(plain, asked=passes.ask(whole, answers))
    models = {"plain": plain.outcomes[True], "base": plain.outcomes[False], "trained": trained.outcomes[True]}
    count = len(prompts) + len(rows.rows)
    found = compare(models, [("plain", "base"), ("trained", "base")], passes.batches, rows=count, ends=stops)
    losses = {name: mean_loss(item) for name, item in found.losses.items()}
    references = {
        name: Reference(models[name], losses[name], found.pairs[name, "base"].divergence, measured.asked)
        for name, measured in (("trained", trained), ("plain", plain))
    }
    return References(
        prompts,
        stops,
        list(passes.batches),
        count,
        **references,
        base_loss=losses["base"],
        ends_before=found.ends["base"],
        ends_after=found.ends["trained"],
        asked=ended_answers(rows, stops),
    )


def compare_models(subject: Subject, references: References, passes: Passes, way: Way, found: Verification) -> Outcome:
    """Hold the export against the unmerged adapter on the base that it was merged into; return what it made of rows."""
    reference = references.plain if subject.weights == "original" else references.trained

    stopped: list[bool] = []

    def check(model: Any) -> None:
        check_answers(subject, model, references.prompts, references.stops, reference.answers or [], found)

    def ask(model: Any) -> None:
        if reference.answers is not None:
            stopped.extend(answer.ends_in(model, references.stops) for answer in references.asked)
            check(model)
        known = any(check.name == "llama.cpp" for check in found.checks)
        if subject.shape.traits.is_gguf and has_llama_cpp() and not known:
            _check_llama_cpp(subject, model, references, found)

    measured = passes.run(exported(subject, dtype=way.dtype, device=way.device), ask=ask)
    if reference.answers is not None and not found.answers and way.asks and not subject.shape.traits.is_gguf:
        passes.ask(exported(subject, dtype=ASKED_IN, device="cpu"), check)
    models = {
        "reference": reference.outcome,
        "trained": references.trained.outcome,
        "export": measured.outcomes[True],
    }
    pairs = [("reference", "export"), ("trained", "export")]
    compared = compare(models, pairs, references.batches, rows=references.sequences, ends=references.stops)
    loss = mean_loss(compared.losses["export"])
    beside = compared.pairs["reference", "export"]
    name = "gguf" if subject.shape.traits.is_gguf else "merged"
    found.losses = {
        "base": references.base_loss,
        "adapter": references.trained.loss,
        "adapter on 16 bit": references.plain.loss,
        name: loss,
    }
    found.ends = _ends(references, compared.ends["export"], stopped)
    found.divergence_as_trained = compared.pairs["trained", "export"].divergence
    asked = list(found.checks)
    answers = [check for check in asked if check.name in _OF_WHOLE]
    found.checks = [check for check in asked if check.name not in _OF_WHOLE]
    _check_divergence(subject, beside.divergence, found)
    _check_adapter(subject, beside.divergence, reference.effect, found)
    _check_loss(subject, loss, reference.loss, found)
    found.checks += answers
    if not any(check.name == "answers" for check in found.checks):
        check_agreement(subject, beside, found)
    return measured.outcomes[True]


def _ends(references: References, export: list[float], stopped: list[bool]) -> EndsReport | None:
    if not export:
        return None
    return EndsReport(
        answers=len(export),
        before=mean(references.ends_before),
        after=mean(references.ends_after),
        export=mean(export),
        lowest=min(export),
        asked=len(stopped),
        stopped=sum(stopped),
    )


def _check_llama_cpp(subject: Subject, model: Any, references: References, found: Verification) -> None:
    """A real llama.cpp computes what the file says: numbers and layout, and not its weights alone."""
    beginnings = [prompt[:_LLAMA_CPP_TOKENS] for prompt in references.prompts]
    try:
        others = logits_of_llama_cpp(subject.gguf, beginnings)
    except StudioError as error:
        found.add("llama.cpp", False, error.message)
        return
    value = measurement.divergence(measurement.distributions(model, beginnings), torch.log_softmax(others, dim=-1))
    limit = _LLAMA_CPP_LIMITS.get(subject.precision, _LLAMA_CPP_LIMIT)
    text = f"A real llama.cpp is {value:.2g} nats a token from what the file's weights compute; at most {limit:g}."
    found.add("llama.cpp", value <= limit, text)


def _check_divergence(subject: Subject, value: float, found: Verification) -> None:
    limit, _ = TOLERANCES[subject.precision]
    text = f"{value:.2g} nats a token from the live adapter; at most {limit:g} for {subject.precision}."
    found.divergence = value
    found.add("logits", value <= limit, text)


def _check_adapter(subject: Subject, divergence: float, effect: float, found: Verification) -> None:
    """What was learned is in it: the export is much nearer to the adapter than the base is.

    A small adapter and a forgotten one would both pass a fixed limit. Coarse quantizations may err by more than a small
    adapter does; their loss and answers say what they are worth.
    """
    if subject.precision not in MARGINS:
        return
    passed = divergence <= effect * _LARGEST_SHARE or effect < _NO_EFFECT
    text = f"The adapter moves the base by {effect:.2g} nats a token; the export is {divergence:.2g} from there."
    if not passed and effect < _SMALL_EFFECT:
        text += (
            f" So small a change drowns in the rounding of {subject.precision}: train on, or export the adapter alone."
        )
    found.add("adapter", passed, text)


def _check_loss(subject: Subject, loss: float | None, expected: float | None, found: Verification) -> None:
    if loss is None or expected is None:
        return
    _, limit = TOLERANCES[subject.precision]
    text = f"Held-out loss {loss:.4f}; the unmerged adapter has {expected:.4f}; at most {limit:g} more is allowed."
    found.add("held-out loss", loss <= expected + limit, text)
