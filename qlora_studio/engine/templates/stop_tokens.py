"""The tokens at which generation is to stop, of a tokenizer and the folder that it came from."""

from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.templates.rendering import RowRenderer, known_stops

_NO_DAY = datetime(2000, 1, 1)
_FOUND: dict[tuple[str, ...], list[int]] = {}


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of the model's eos list, the tokenizer's eos, and what its template ends answers and calls with.

    A template that cannot be rendered adds none.
    """
    known, eos = known_stops(tokenizer), str(tokenizer.eos_token or "")
    key = (str(tokenizer.chat_template), eos, str(len(tokenizer)), *known)
    if key not in _FOUND:
        tokens = [*known, eos, *_of_template(tokenizer)]
        ids: Any = tokenizer.convert_tokens_to_ids([token for token in tokens if token])
        _FOUND[key] = list(dict.fromkeys(int(number) for number in ids if number is not None))
    return list(_FOUND[key])


def _of_template(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    if not tokenizer.chat_template:
        return []
    try:
        with RowRenderer(tokenizer, loss_on="assistant", now=_NO_DAY) as renderer:
            return renderer.stops()
    except StudioError:
        return []
