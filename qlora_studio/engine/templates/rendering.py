"""Examples as the text that is trained, by the model's own chat template, with the spans of the answers.

Preview and training both come through here.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.example import Example
from qlora_studio.core.words import say
from qlora_studio.engine.templates.base_template import give_template, text_frame
from qlora_studio.engine.templates.loss_mask import Learned
from qlora_studio.engine.templates.sandbox import Conversation, TemplateSandbox
from qlora_studio.storage.models.folder import generation_config

HOW_WORDS = {
    "markers": say("the template's own generation markers"),
    "turns": say("rendered turn by turn and verified"),
    "contents": say("marks around all that is said, rendered again and verified"),
    "kept": say("marks around all that is said, each answer with its reasoning"),
    "all": say("the full text"),
    "text": say("plain text, trained in full"),
}


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """The text of an example with the spans, in characters, that are trained; or `error`.

    `hidden` is the error that the template renders it and does not show its answers; then there is a text as well.
    `changed` says what was changed so that the template takes it, `lost` what the template leaves out, and `dropped` is
    the reasoning among that. `unlearned` counts answers that are not learned, by their marks or by choice.
    """

    text: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    how: str = ""
    ended: bool = True
    added: str = ""
    prompted: bool = True
    changed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unlearned: int = 0
    error: str = ""
    hidden: bool = False


class RowRenderer:
    """Renders batches of examples. A context manager: it holds a child process."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        loss_on: Learned,
        now: datetime,
        joins: bool = False,
        keeps: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._variables = dict(variables or {})
        self.template_name = give_template(tokenizer)
        self._how: dict[str, Any] = {"learned": loss_on, "joins": joins, "keeps": keeps, "now": now}
        self._frame = text_frame(tokenizer)
        templates = tokenizer.chat_template
        named = dict(templates) if isinstance(templates, dict) else {"default": templates}
        self._default = str(named.get("default") or next(iter(named.values())))
        self._for_tools = str(named.get("tool_use") or self._default)
        self._tokenizer = tokenizer
        self._sandboxes: dict[str, TemplateSandbox] = {}
        self._pending: list[tuple[str, list[int]]] = []
        self._batch: list[RenderedRow | None] = []

    def __enter__(self) -> "RowRenderer":
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as stack:
            for sandbox in self._sandboxes.values():
                stack.callback(sandbox.close)

    def render(self, examples: Sequence[Example]) -> list[RenderedRow]:
        """Return a row for each example, in order."""
        self.submit(examples)
        return self.collect()

    def submit(self, examples: Sequence[Example]) -> None:
        """Begin to render a batch in the child, while the caller does something else."""
        self._batch = [self._text_row(example) if example.text is not None else None for example in examples]
        self._pending = []
        for template in (self._default, self._for_tools):
            indices = [
                index
                for index, example in enumerate(examples)
                if example.text is None and self._template_for(example) == template
            ]
            if indices and (template, indices) not in self._pending:
                chosen = [examples[index] for index in indices]
                rows: list[Conversation] = [(row.messages, row.tools or None, row.variables) for row in chosen]
                self._sandbox(template).submit(rows)
                self._pending.append((template, indices))

    def collect(self) -> list[RenderedRow]:
        """Return the batch that was submitted."""
        for template, indices in self._pending:
            for index, reply in zip(indices, self._sandbox(template).collect(), strict=True):
                self._batch[index] = _row(reply)
        rows, self._batch, self._pending = [row for row in self._batch if row is not None], [], []
        return rows

    def stops(self) -> list[str]:
        """Return the tokens at which generation is to stop, by every template of the tokenizer."""
        found = [token for name in (self._default, self._for_tools) for token in self._sandbox(name).stops()]
        return list(dict.fromkeys(found))

    def reads(self) -> set[str]:
        """Return the variables that the tokenizer's templates read."""
        return {name for template in (self._default, self._for_tools) for name in self._sandbox(template).reads()}

    def _template_for(self, example: Example) -> str:
        return self._for_tools if example.tools else self._default

    def _text_row(self, example: Example) -> RenderedRow:
        start, end = self._frame
        text = example.text or ""
        text = ("" if text.startswith(start) else start) + text + ("" if text.endswith(end) else end)
        return RenderedRow(text, ((0, len(text)),), "text", ended=bool(end))

    def _sandbox(self, template: str) -> TemplateSandbox:
        if template not in self._sandboxes:
            self._sandboxes[template] = TemplateSandbox(
                template,
                variables=special_variables(self._tokenizer) | self._variables,
                control_tokens=[token.content for token in self._tokenizer.added_tokens_decoder.values()],
                end_token=str(self._tokenizer.eos_token or ""),
                stops=known_stops(self._tokenizer),
                **self._how,
            )
        return self._sandboxes[template]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the added tokens that steer the model: the special ones and those in brackets."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    return [
        token.content
        for token in added.values()
        if token.special or (token.content[:1] in "<[" and token.content[-1:] in ">]")
    ]


def known_stops(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens at which the model of a tokenizer's folder stops, by its generation config."""
    folder = Path(str(tokenizer.name_or_path or ""))
    found = generation_config(folder).get("eos_token_id") if folder.is_absolute() else None
    ids = found if isinstance(found, list) else [found]
    known = [number for number in ids if type(number) is int and 0 <= number < len(tokenizer)]
    return [str(name) for name in tokenizer.convert_ids_to_tokens(known)]


class ControlTokens:
    """Finds control tokens that somebody typed: they become real ones, and may end a turn in its middle."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        tokens = sorted(control_tokens(tokenizer), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, tokens)) or "(?!)")

    def stand_in(self, example: Example) -> bool:
        """Whether one stands in what is not the model's own to say."""
        if example.text is not None:
            return self._pattern.search(example.text) is not None
        find = self._pattern.search
        for message in example.messages:
            if message["role"] != "assistant" and find(str(message.get("content") or "")) is not None:
                return True
        return False


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the chat template for conversations without tools; a tokenizer that has none is given a fallback."""
    give_template(tokenizer)
    templates: Any = tokenizer.chat_template
    named = dict(templates) if isinstance(templates, dict) else {"default": templates}
    return str(named.get("default") or next(iter(named.values())))


def special_variables(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the variables that transformers hands to a template."""
    special: dict[str, Any] = tokenizer.special_tokens_map
    return {name: str(value) for name, value in special.items() if isinstance(value, str)}


def _row(reply: dict[str, Any]) -> RenderedRow:
    if "error" in reply:
        hidden = bool(reply.get("hidden"))
        return RenderedRow(text=str(reply.get("text", "")), error=str(reply["error"]), hidden=hidden)
    lists = {name: tuple(value) for name, value in reply.items() if isinstance(value, list)}
    return RenderedRow(**{**reply, **lists, "spans": tuple((int(start), int(end)) for start, end in reply["spans"])})
