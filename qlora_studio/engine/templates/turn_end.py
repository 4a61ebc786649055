"""Which token ends an answer, and which a call that hands over to a tool: seen in what a template writes behind them.

Neither brackets nor names say it. What generation stops at is known from outside (the eos list of the model's
generation config, the tokenizer's eos); the rest is rendered: an answer and a call that come last, and the same ones
with a turn behind them. Pure text; runs in the sandbox's child.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import REFUSALS, Message
from qlora_studio.engine.templates.shape import TemplateShape

_ASKED, _ANSWER, _NEXT, _WORD, _RESULT = "Qx1asked", "Qx2answer", "Qx3next", "Qx4word", "Qx5result"
_ID = "call00001"  # nine letters and digits: Mistral's templates refuse others
_QUESTION = {"role": "user", "content": _ASKED}
_ANSWERED = {"role": "assistant", "content": _ANSWER}
_CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "id": _ID, "function": {"name": "qx_tool", "arguments": {"a": _WORD}}}],
}
_AGAIN = {"role": "assistant", "content": "Qx6again"}
_TOLD = {"role": "tool", "content": _RESULT, "name": "qx_tool", "tool_call_id": _ID}


@dataclass(frozen=True)
class TurnEnds:
    """The tokens that end a turn of the assistant.

    `tokens` are all that may stand behind one in a text. `stops` are those at which generation has to stop: not what
    a template writes in the middle of a conversation alone. `after_answer` and `after_call` are put behind a last turn
    that the template leaves open.
    """

    tokens: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    after_answer: str = ""
    after_call: str = ""

    def missing(self, message: Message) -> str:
        """Return the token that ends this turn, where the template leaves it open."""
        return self.after_call if message.get("tool_calls") else self.after_answer


def turn_ends(shape: TemplateShape, added: Iterable[str], eos: str, stops: Sequence[str] = ()) -> TurnEnds:
    """Return the ends of a template's turns. `added` are the tokenizer's added tokens; `stops` are the model's."""
    known = _once([*stops, eos])
    probe = _Probe(shape, {*added, *known})
    alone, followed = _ends_of_answers(probe, known)
    answer = alone or next(iter(followed), "") or eos
    call = _end_of_calls(probe, _once([*known, alone, *followed]), is_open=not alone)
    return TurnEnds(
        tokens=_once([*known, alone, *followed, call]),
        stops=_once([*known, answer, call]),
        after_answer=answer,
        after_call=call or answer,
    )


def _ends_of_answers(probe: "_Probe", known: Sequence[str]) -> tuple[str, list[str]]:
    """Return what ends an answer that comes last, and what ends one that a question or a system prompt follows.

    The latter may be the header of what follows: it is an end where the model stops at it, or the template writes no
    other. What ends a question too is no header.
    """
    last = probe.behind(_ANSWER, [_QUESTION, _ANSWERED])
    between = [
        probe.behind(_ANSWER, [_QUESTION, _ANSWERED, {"role": role, "content": _NEXT}, _AGAIN], until=_NEXT)
        for role in ("user", "system")
    ]
    pairs = zip(probe.ahead(last), probe.ahead(between[0]), strict=False)
    both = [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]  # written in either case
    alone = next((token for token in both if token in known), "") or next(reversed(both), "")
    alone = alone or probe.first(last) or probe.among(last, known)
    closing = {*known, alone, probe.first(probe.behind(_ASKED, [_QUESTION, _ANSWERED]))}
    found = [probe.among(text, [alone]) or probe.first(text) or probe.among(text, known) for text in between]
    return alone, [token for token in found if token and (not alone or token in closing)]


def _end_of_calls(probe: "_Probe", ends: Sequence[str], *, is_open: bool) -> str:
    """Return what ends a call, "" where the template shows none.

    A template that `is_open` writes no end of a turn, but what follows it: there it is the first token of the result's
    turn, else the last one of the call's own.
    """
    alone = probe.behind(_WORD, [_QUESTION, _CALLED])
    between = probe.behind(_WORD, [_QUESTION, _CALLED, _TOLD, _AGAIN], until=_RESULT)
    if found := probe.among(alone, ends) or probe.among(between, ends):
        return found
    own = probe.tokens(alone)
    following = probe.tokens(between.removeprefix(alone.rstrip()))
    return next(iter(following), "") if is_open else next(reversed(own), "")


class _Probe:
    """Renders conversations, and finds added tokens in their texts."""

    def __init__(self, shape: TemplateShape, tokens: Iterable[str]) -> None:
        found = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
        pattern = "|".join(map(re.escape, found)) or "(?!)"
        self._shape, self._token = shape, re.compile(pattern)
        self._ahead = re.compile(rf"(?:\s*(?:{pattern}))*")

    def behind(self, mark: str, messages: Sequence[Message], until: str = "") -> str:
        """Return the text behind a mark, up to another one; "" where the template does not take these messages."""
        try:
            text = self._shape.rendered(messages).text
        except (RowRefused, *REFUSALS):
            return ""
        end = text.find(until) if until else len(text)
        start = text.rfind(mark, 0, end)
        return text[start + len(mark) : end] if start >= 0 else ""

    def ahead(self, text: str) -> list[str]:
        """Return the tokens that a text begins with, white space aside."""
        match = self._ahead.match(text)
        return self.tokens(match.group() if match else "")

    def first(self, text: str) -> str:
        """Return the first of these, or ""."""
        return next(iter(self.ahead(text)), "")

    def among(self, text: str, wanted: Sequence[str]) -> str:
        """Return the first token of a text that is one of those."""
        return next((token for token in self.tokens(text) if token in wanted), "")

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        return self._token.findall(text)


def _once(tokens: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(token for token in tokens if token.strip()))
