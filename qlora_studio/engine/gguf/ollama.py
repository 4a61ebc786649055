"""An Ollama folder: the Modelfile beside a GGUF; and a trial in Ollama where it is there."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from qlora_studio import child_process
from qlora_studio.core.export.serving import TemplateShape, TurnShape, modelfile
from qlora_studio.core.words import say
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.model.base import plain_tokenizer
from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.engine.templates.sandbox import TemplateRefusal
from qlora_studio.engine.templates.stop_tokens import stop_token_ids
from qlora_studio.storage.models.folder import generation_config

_MARK = "\u2042"  # an asterism: in no template
_CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Good day"},
    {"role": "user", "content": "And now?"},
]
_QUICK, _SLOW = 20.0, 600.0  # seconds
_QUESTION = "Hello!"
_AS_TODAY = Prompting()


class _Render(Protocol):
    def __call__(self, turns: list[tuple[str, str]], *, opening: bool = False) -> str | None: ...


def write_modelfile(
    folder: Path, file: str, tokenizer_folder: Path, prompting: Prompting, reporter: Reporter
) -> dict[str, Any]:
    """Write `Modelfile`; return whether Ollama will write conversations as the model was trained on them.

    Ollama hands no variables to a template: those of the run are written into it.
    """
    tokenizer: Any = plain_tokenizer(tokenizer_folder)
    shape = template_shape(tokenizer, prompting)
    if shape is None:
        reporter.warn(
            "template",
            say(
                "This chat template cannot be written as Ollama's. Ollama will use the one in the "
                "GGUF where it knows it; compare an answer with the Chat page."
            ),
        )
    generation = generation_config(tokenizer_folder)
    ends = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    text = modelfile(file, stops=sorted({*stop_texts(tokenizer, shape), *ends}), shape=shape, generation=generation)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return {"template": shape is not None}


def template_shape(tokenizer: Any, prompting: Prompting = _AS_TODAY) -> TemplateShape | None:
    """Return a chat template as texts around contents, or None where it is more than that.

    Found by rendering marks in place of contents, and believed only when it renders a whole conversation alike.
    """
    if not tokenizer.chat_template:
        return None
    rendered = partial(_rendered, tokenizer, prompting)
    bos = _bos_added_by_itself(tokenizer)
    user = rendered([("user", _MARK)])
    answered = rendered([("user", _MARK), ("assistant", _MARK)])
    again = rendered([("user", _MARK), ("assistant", _MARK), ("user", _MARK)])
    opened = rendered([("user", _MARK)], opening=True)
    if user is None or answered is None or again is None or opened is None:
        return None
    if not (opened.startswith(user) and answered.startswith(user) and again.startswith(answered)):
        return None
    assistant = _around(answered[len(user) :])
    later_user, first_user = _around(again[len(answered) :]), _around(user.removeprefix(bos))
    if not first_user.prefix.endswith(later_user.prefix):
        return None
    preamble = first_user.prefix.removesuffix(later_user.prefix)
    system = _system_shape(rendered, later_user, bos)
    shape = TemplateShape(system, later_user, assistant, opened[len(user) :], preamble)
    return shape if _is_right(rendered, shape, bos) else None


def _bos_added_by_itself(tokenizer: Any) -> str:
    """The beginning token where the tokenizer, and so llama.cpp, writes it: the template must not write it again."""
    ids = tokenizer("a").input_ids
    return str(tokenizer.bos_token) if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ""


def _is_right(rendered: _Render, shape: TemplateShape, bos: str) -> bool:
    for conversation in (_CONVERSATION[1:], _CONVERSATION if shape.system else _CONVERSATION[1:2]):
        turns = [(turn["role"], turn["content"]) for turn in conversation]
        expected = rendered(turns, opening=True)
        if expected is None or shape.render(conversation) != expected.removeprefix(bos):
            return False
    return True


def _around(text: str) -> TurnShape:
    before, _, after = text.partition(_MARK)
    return TurnShape(before, after)


def stop_texts(tokenizer: Any, shape: TemplateShape | None) -> list[str]:
    """Return the texts that end an answer: the end token, and a control token that the template ends a turn with."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ends = [tokenizer.eos_token or ""]
    if shape is not None:
        ends += [token for token in special if token and shape.assistant.suffix.strip().startswith(token)]
    return sorted({text for text in ends if text})


def _system_shape(rendered: _Render, user: TurnShape, bos: str) -> TurnShape | None:
    text = rendered([("system", _MARK), ("user", _MARK)])
    end = f"{user.prefix}{_MARK}{user.suffix}"
    if text is None or not text.endswith(end) or _MARK not in text.removesuffix(end):
        return None
    return _around(text.removeprefix(bos).removesuffix(end))


def _rendered(
    tokenizer: Any, prompting: Prompting, turns: list[tuple[str, str]], *, opening: bool = False
) -> str | None:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return prompting.text(tokenizer, messages, opening=opening)
    except TemplateRefusal:
        return None


def try_in_ollama(folder: Path) -> tuple[bool, str] | None:
    """Return whether Ollama made and ran the model, and in words; None where there is no Ollama that answers."""
    program = shutil.which("ollama")
    if program is None or _run(program, _QUICK, "list") is None:
        return None
    name = f"qlora-studio-check-{os.getpid()}"
    try:
        if _run(program, _SLOW, "create", name, "-f", str(folder.absolute() / "Modelfile")) is None:
            return False, "ollama create did not take the Modelfile."
        answer = _run(program, _SLOW, "run", name, _QUESTION)
        if not answer or not answer.strip():
            return False, "Ollama made the model, and it did not answer."
        return True, f"Ollama made the model, and it answers: {' '.join(answer.split())[:120]}"
    finally:
        _run(program, _QUICK, "rm", name)


def _run(program: str, seconds: float, *words: str) -> str | None:
    """Return what a command prints, or None where it fails or takes too long."""
    try:
        code, out, _ = child_process.ask([program, *words], seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out if code == 0 else None
