"""Chat templates for a base model that has none of its own, each once in BASE_TEMPLATES.

Nothing is added to a vocabulary for them: a new token would have to be learned in the embeddings, which are not
trained. A template is for vocabularies that have its tokens, or it marks turns with words and ends answers with eos.
"""

from collections.abc import Container
from dataclasses import dataclass

from qlora_studio.core.words import say

AUTO = "auto"
_BOS = "{{ bos_token }}"
_TURNS = "{% for message in messages %}"
_CHATML = (
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class BaseTemplate:
    """A template: its name for people, its text, the tokens that the vocabulary must have; `needs_eos` where that ends
    an answer.
    """

    title: str
    text: str
    tokens: tuple[str, ...] = ()
    needs_eos: bool = False

    def missing(self, vocabulary: Container[str], eos: str) -> str:
        """Return in words what a tokenizer lacks for it, or nothing."""
        missing = [token for token in self.tokens if token not in vocabulary]
        if missing:
            return (
                f"its vocabulary does not have {' and '.join(missing)}: they would be new tokens, whose embeddings "
                "this program does not train"
            )
        return "its tokenizer has no end-of-text token that could end an answer" if self.needs_eos and not eos else ""

    @property
    def name(self) -> str:
        """What it is called in a run's file."""
        return self.title.lower().replace(" ", "")

    @property
    def cost(self) -> str:
        """What using it costs, in words."""
        if self.tokens:
            named = ", ".join(self.tokens)
            return (
                f"It adds no token: {named} are in the vocabulary. Their embeddings are not trained; a base that never "
                "saw them learns them by the adapter alone, from enough rows."
            )
        return "It adds no token and trains no embedding: words mark the turns, and the eos token ends an answer."

    @property
    def terms(self) -> str:
        """What choosing it means while the model may still be any."""
        if self.tokens:
            named = " and ".join(self.tokens)
            return f"Refused where the vocabulary lacks {named}: no token is added, and no embedding trained."
        return self.cost

    def of(self, *, bos: bool) -> str:
        """Return its text, with the beginning of text in front where the tokenizer writes one."""
        return (_BOS if bos else "") + self.text


def template_choices() -> dict[str, str]:
    """Return what a run may say of its template, in words by name."""
    return {AUTO: say("Auto"), **{name: template.title for name, template in BASE_TEMPLATES.items()}}


def base_template_of(text: str) -> BaseTemplate | None:
    """Return the one of these templates that a text is, or None."""
    return next((item for item in BASE_TEMPLATES.values() if text.removeprefix(_BOS) == item.text), None)


_ALL = (
    BaseTemplate(title="ChatML", text=f"{_TURNS}{_CHATML}", tokens=("<|im_start|>", "<|im_end|>")),
    BaseTemplate(
        title=say("Starter"),
        text=(
            "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant."
            f"<|im_end|>{{{{ '\\n' }}}}{{% endif %}}{_TURNS}{_CHATML}"
        ),
        tokens=("<|im_start|>", "<|im_end|>"),
    ),
    BaseTemplate(
        title="Llama 3",
        text=(
            f"{_TURNS}<|start_header_id|>{{{{ 'ipython' if message['role'] == 'tool' else message['role'] }}}}"
            "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    BaseTemplate(
        title="Alpaca",
        text=(
            f"{_TURNS}{{% if message['role'] == 'user' %}}### Instruction:\n{{{{ message['content'] }}}}\n\n"
            "{% elif message['role'] == 'assistant' %}### Response:\n{{ message['content'] }}{{ eos_token }}\n\n"
            "{% elif message['role'] == 'system' %}{{ message['content'] }}\n\n"
            "{% else %}{{ raise_exception('the Alpaca template has no results of tools') }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}### Response:\n{{ '' }}{% endif %}"
        ),
        needs_eos=True,
    ),
    BaseTemplate(
        title=say("plain"),
        text=(
            f"{_TURNS}"
            "{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}[message['role']] }}: "
            "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
        ),
    ),
)
BASE_TEMPLATES = {item.name: item for item in _ALL}
