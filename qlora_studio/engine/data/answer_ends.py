"""Does what is trained end as generation does? A second opinion on the mask, and on the ends that it found.

It shares nothing with what makes the mask: it goes by token ids, reads the model's eos list itself, and sees what
stands behind an answer and a call in tokenized probes of its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.engine.data.tokenized_rows import TokenizedRow, encode
from qlora_studio.engine.templates.sandbox import TemplateSandbox

_ANSWER, _NEXT, _VALUE, _RESULT = "zqanswer", "zqnext", "zqvalue", "zqresult"
_NO_DAY = datetime(2000, 1, 1)
_FEW = 4  # tokens: an end, white space, an end


class AnswerEnds:
    """The ids of the tokens that may end what is trained."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any] | None = None) -> None:
        self._tokenizer, self._variables = tokenizer, dict(variables or {})
        self._ids = _eos_list(tokenizer)
        if tokenizer.chat_template:
            self._ids |= self._shown()

    def is_open(self, row: TokenizedRow) -> bool:
        """Whether something trained in a row does not end with such a token."""
        return any(row.ids[last - 1] not in self._ids for _, last in row.runs)

    def is_doubled(self, row: TokenizedRow) -> bool:
        """Whether one of them is trained twice at an end, with nothing but white space between."""
        return any(self._ends_twice(row.ids[max(first, last - _FEW) : last]) for first, last in row.runs)

    def _ends_twice(self, ids: list[int]) -> bool:
        if not ids or ids[-1] not in self._ids or ids[-1] not in ids[:-1]:
            return False
        earlier = len(ids) - 2 - ids[-2::-1].index(ids[-1])
        return not str(self._tokenizer.decode(ids[earlier + 1 : -1])).strip()

    def _shown(self) -> set[int]:
        """Return what stands behind answers and calls that come last, and behind those that another turn follows."""
        named: Any = self._tokenizer.chat_template
        plain = str(named.get("default") or next(iter(named.values()))) if isinstance(named, dict) else str(named)
        with_tools = str(named.get("tool_use") or plain) if isinstance(named, dict) else plain
        ask, bye = {"role": "user", "content": _NEXT}, {"role": "assistant", "content": "zqbye"}
        say = {"role": "assistant", "content": _ANSWER}
        function = {"name": "zqdo", "arguments": {"a": _VALUE}}
        calls = [{"type": "function", "id": "zqcall001", "function": function}]
        do = {"role": "assistant", "content": "", "tool_calls": calls}
        done = {"role": "tool", "content": _RESULT, "name": "zqdo", "tool_call_id": "zqcall001"}
        texts = self._rendered(plain, [[ask, say], [ask, say, ask, bye]])
        alone, followed = (self._behind(text, _ANSWER, until) for text, until in zip(texts, ("", _NEXT), strict=True))
        closes = bool(alone)  # else a turn ends with the header of what follows
        ends = set(_known(alone, self._ids) or alone[-1:])
        ends |= set(_known(followed, ends | self._ids)[:1] or followed[:1])
        texts = self._rendered(with_tools, [[ask, do], [ask, do, done, bye]])
        alone, followed = (self._behind(text, _VALUE, until) for text, until in zip(texts, ("", _RESULT), strict=True))
        found = _known([*alone, *followed], ends | self._ids)
        return ends | set(found[:1] or (alone[-1:] if closes else followed[len(alone) :][:1]))

    def _rendered(self, template: str, conversations: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
        special: dict[str, Any] = self._tokenizer.special_tokens_map
        variables: dict[str, Any] = {name: str(value) for name, value in special.items() if isinstance(value, str)}
        variables |= self._variables
        sandbox = TemplateSandbox(
            template, variables=variables, control_tokens=(), end_token="", now=_NO_DAY, learned="all"
        )
        try:
            return [
                str(reply.get("text", "")) for reply in sandbox.render([(item, None, None) for item in conversations])
            ]
        finally:
            sandbox.close()

    def _behind(self, text: str, mark: str, until: str) -> list[int]:
        """Return the added tokens behind a mark, up to another one."""
        end = text.rfind(until) if until else len(text)
        start = text.rfind(mark, 0, max(0, end))
        if start < 0:
            return []
        (encoding,) = encode([text[start + len(mark) : end]], self._tokenizer)
        added = self._tokenizer.added_tokens_decoder
        return [token for token in encoding.ids if token in added or token in self._ids]


def _known(tokens: Iterable[int], known: set[int]) -> list[int]:
    return [token for token in tokens if token in known]


def _eos_list(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokenizer's eos, and those of the generation config in the folder that it came from."""
    found: list[Any] = [tokenizer.eos_token_id]
    try:
        content = json.loads((Path(tokenizer.name_or_path) / "generation_config.json").read_text("utf-8"))
        listed = content.get("eos_token_id")
        found += listed if isinstance(listed, list) else [listed]
    except (OSError, ValueError, AttributeError):
        pass  # there is none: the tokenizer's alone
    return {token for token in found if isinstance(token, int)}
