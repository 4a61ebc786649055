"""Variables that a chat template reads besides the conversation, set for a run or by a row (`chat_template_kwargs`).

None of them can stand in for the conversation, the template, or what transformers hands to every template.
"""

import json
from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_notes import Fields, RowNotes, is_nothing
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import from_json_text, kind_of, shown
from qlora_studio.core.words import say

_COLUMN = "chat_template_kwargs"
_CONVERSATION = ("messages", "conversation", "conversations", "tools", "documents", "chat_template", "template")
_OF_TRANSFORMERS = (
    "add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs",
    "raise_exception", "strftime_now", "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
    "mask_token", "additional_special_tokens",
)  # fmt: skip
_OF_JINJA = ("dict", "namespace", "range", "cycler", "joiner", "lipsum", "self", "loop")
_HELD = {*_CONVERSATION, *_OF_TRANSFORMERS, *_OF_JINJA}


def objection(variables: Mapping[str, Any]) -> str:
    """Return why these cannot be variables of a template, or nothing."""
    for name, value in variables.items():
        if name in _HELD or name.startswith("_"):
            return f"'{shown(name)}' is no variable that can be set: it belongs to the conversation or the template"
        if not name.isidentifier():
            return f"'{shown(name)}' is no name of a variable"
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return f"'{shown(name)}' {kind_of(value)}, which cannot be handed to a template"
    return ""


def variables_of(fields: Fields, notes: RowNotes) -> dict[str, Any]:
    """Return the variables that a row sets. Raises RowRefused. What is null is not set, as in the other columns."""
    value = fields.get(_COLUMN)
    if is_nothing(value):
        return {}
    value = from_json_text(value, _COLUMN, "the template's variables", notes)
    if not isinstance(value, Mapping):
        raise RowRefused(say("{column} {kind_of}, not an object of variables", column=_COLUMN, kind_of=kind_of(value)))
    variables = {str(name): item for name, item in value.items() if item is not None}
    if why := objection(variables):
        raise RowRefused(f"{_COLUMN}: {why}")
    return variables


def variables_text(variables: Mapping[str, Any]) -> str:
    """Return variables in words: `enable_thinking = false, date = "1 May"`."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in variables.items())
