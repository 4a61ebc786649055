"""What a run hands to its chat template besides the conversation, wherever its model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.engine.templates.chat_template import ChatTemplate, Message
from qlora_studio.engine.templates.rendering import special_variables


@dataclass(frozen=True)
class Prompting:
    """The variables of the run, and what templates take for today; None is the day that it is."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    day: datetime | None = None

    def text(
        self, tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message], *, opening: bool = True
    ) -> str:
        """Return a conversation by a template; `opening` invites the answer. Raises what the template raises.

        transformers hands no function to a template, and so no other day than today.
        """
        variables = special_variables(tokenizer) | dict(self.variables)
        return ChatTemplate(template, variables, self.day or datetime.now()).render(messages, generation_prompt=opening)
