"""What a run hands to its chat template besides the conversation, wherever its model is asked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.engine.templates.chat_template import Message
from qlora_studio.engine.templates.rendering import special_variables, template_of
from qlora_studio.engine.templates.sandbox import rendered_texts


@dataclass(frozen=True)
class Prompting:
    """The variables of the run, and what templates take for today; None is the day that it is."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    day: datetime | None = None

    def text(self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, opening: bool = True) -> str:
        """Return a conversation by the tokenizer's template; `opening` invites the answer. Raises as `texts` does."""
        return self.texts(tokenizer, [messages], opening=opening)[0]

    def texts(
        self, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, opening: bool = True
    ) -> list[str]:
        """Return conversations by the tokenizer's template, in the sandbox. Raises StudioError where it takes them not.

        transformers hands no function to a template, and so no other day than today.
        """
        template, variables = template_of(tokenizer), special_variables(tokenizer) | dict(self.variables)
        day = (self.day or datetime.now()).isoformat() if "strftime_now" in template else ""
        asked = json.dumps([variables, [list(map(dict, messages)) for messages in conversations]])
        return list(_texts(template, asked, day, opening=opening))


@lru_cache(maxsize=16)
def _texts(template: str, asked: str, day: str, *, opening: bool) -> tuple[str, ...]:
    """Return what a child wrote; kept for what is asked again: by the next model of a chat, at the next evaluation."""
    variables, conversations = json.loads(asked)
    now = datetime.fromisoformat(day) if day else datetime(2000, 1, 1)
    return tuple(rendered_texts(template, conversations, variables=variables, now=now, opening=opening))
