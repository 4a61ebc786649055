"""The chat template of a run: the model's own, one that was chosen, or a fallback for a base model that has none.

What is given becomes the tokenizer's own, so that it is saved with the adapter and used wherever it is served.
"""

from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.base_templates import AUTO, BASE_TEMPLATES, base_template_of
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

_OWN: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # what a tokenizer came with, before one was chosen


def choose_template(tokenizer: PreTrainedTokenizerBase, wish: str) -> None:
    """Give a tokenizer the template that is wished for. Raises StudioError where its vocabulary cannot take that.

    Auto is the tokenizer's own one, else a fallback.
    """
    own = _OWN.setdefault(tokenizer, tokenizer.chat_template)
    if wish == AUTO:
        tokenizer.chat_template = own
        give_template(tokenizer)
        return
    if why := _missing(tokenizer, wish):
        others = [name for name in BASE_TEMPLATES if not _missing(tokenizer, name)]
        raise StudioError(
            say(
                "The {title} template cannot be used with this base model: {why}.",
                title=BASE_TEMPLATES[wish].title,
                why=why,
            ),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Set data.chat_template to {value}.", value=", ".join([AUTO, *others]))
            if others
            else say("Choose another model."),
        )
    tokenizer.chat_template = _written(tokenizer, wish)


def give_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """See to it that the tokenizer has a template, and return its name: model, or that of one of BASE_TEMPLATES."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = _written(tokenizer, "plain" if _missing(tokenizer, "chatml") else "chatml")
    return template_name(tokenizer)


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return whose chat template a tokenizer has: model, or what one of BASE_TEMPLATES is called."""
    found = base_template_of(str(tokenizer.chat_template))
    return found.title if found else "model"


def text_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return what stands before and after a plain text: BOS where the tokenizer writes one, and EOS."""
    ids = list(tokenizer("a")["input_ids"])
    bos = tokenizer.bos_token_id
    start = str(tokenizer.bos_token) if bos is not None and ids[:1] == [bos] else ""
    return start, str(tokenizer.eos_token or "")


def _written(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    return BASE_TEMPLATES[name].of(bos=text_frame(tokenizer)[0] != "")


def _missing(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    return BASE_TEMPLATES[name].missing(tokenizer.get_vocab(), str(tokenizer.eos_token or ""))
