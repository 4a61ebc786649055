"""What models answer, and what they would say next: an export's beside the adapter's."""

from typing import Any

import torch

from qlora_studio.core.run.reports import ComparedAnswer
from qlora_studio.engine.verification import measurement
from qlora_studio.engine.verification.comparison import Pair
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.subject import Subject, rendered_ids

Answers = list[list[int]]
# A greedy answer may turn elsewhere where two tokens are about as likely: by how much one may lead, by precision.
MARGINS = {"fp32": 0.01, "bf16": 0.1, "fp16": 0.1, "f16": 0.1, "q8_0": 0.2}
ASKED_IN = torch.bfloat16  # of models that are streamed: as they are stored, weights are mapped and take no memory
_PROMPTS = ("Hello! Who are you?", "Write one sentence about the sea.", "What is 17 + 25?")
_TOKENS = 24


def prompts_of(tokenizer: Any) -> list[list[int]]:
    """The fixed prompts in the model's own template; the first ids there are for a model without a tokenizer."""
    if tokenizer is None:
        return [list(range(start, start + 16)) for start in (3, 11, 19)]
    return rendered_ids(tokenizer, *([{"role": "user", "content": text}] for text in _PROMPTS), opening=True)


def greedy_answers(model: Any, prompts: list[list[int]], stops: list[int]) -> Answers:
    """Return a model's own answers, as ids without the prompts."""
    return [measurement.greedy(model, prompt, stops, tokens=_TOKENS) for prompt in prompts]


def check_agreement(subject: Subject, beside: Pair, found: Verification) -> None:
    """The same likeliest words along given answers, where models come layer by layer and give none of their own."""
    limit = MARGINS.get(subject.precision, 1.0)
    text = f"Given the words before, the likeliest next one is the same at {beside.agreement:.2%} of {beside.tokens:,}"
    text += " places"
    text += f"; elsewhere it leads by at most {beside.lead:.2g} of probability." if beside.agreement < 1 else "."
    text += " The models were read layer by layer, so that none was asked for answers of its own."
    found.add("answers", beside.lead <= limit, text)


def check_answers(
    subject: Subject,
    export: Any,
    prompts: list[list[int]],
    stops: list[int],
    answers: Answers,
    found: Verification,
) -> None:
    """The same greedy answers; another one only where two tokens were about as likely, and shown."""
    limit, worst = MARGINS.get(subject.precision, 1.0), 0.0
    limit = limit if export.dtype == torch.float32 else max(limit, MARGINS["bf16"])
    decode = subject.tokenizer.decode if subject.tokenizer is not None else str
    same, parting = 0, ""
    for text, prompt, answer in zip(_PROMPTS, prompts, answers, strict=True):
        other = measurement.greedy(export, prompt, stops, tokens=_TOKENS)
        parts: dict[str, Any] = {}
        if answer == other:
            same += 1
        else:
            first = _first_difference(answer, other)
            wanted, got = ((ids + stops)[first : first + 1] for ids in (answer, other))
            lead = measurement.lead(export, [*prompt, *answer[:first]], wanted[0]) if wanted else 1.0
            parts = {"first_difference": first, "lead": lead}
            if lead >= worst:
                after = decode(answer[max(0, first - 6) : first])
                parting = (
                    f" After {after!r} the adapter goes on with {decode(wanted)!r}, the export with {decode(got)!r}."
                )
            worst = max(worst, lead)
        found.answers.append(
            ComparedAnswer(prompt=text, adapter=decode(answer), export=decode(other), same=answer == other, **parts)
        )
    text = f"{same} of {len(answers)} greedy answers are the same"
    text += f"; the others part where one token leads by {worst:.2g} of probability." if parting else "."
    found.add("answers", worst <= limit, text + parting)


def _first_difference(one: list[int], other: list[int]) -> int:
    """Return the index of the first token that differs; where one answer ends, it is the other's next one."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))
