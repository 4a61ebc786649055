"""Ready-made commands for what was exported, and Ollama's Modelfile."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from qlora_studio.core.export.formats import ExportFormat

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank can be
# Of a generation config, by Ollama's names.
_OLLAMA_PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


@dataclass(frozen=True)
class ServingCommand:
    """A program that can serve an export, and what to type."""

    program: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class TurnShape:
    """What a chat template writes before and after the content of a role's turn."""

    prefix: str
    suffix: str


@dataclass(frozen=True)
class TemplateShape:
    """A chat template as plain texts around contents.

    `opening` invites the assistant's answer; `preamble` comes first where there is no system turn.
    """

    system: TurnShape | None
    user: TurnShape
    assistant: TurnShape
    opening: str
    preamble: str = ""

    def render(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation up to where the answer begins, as the Modelfile's template writes it."""
        shapes = {"system": self.system, "user": self.user, "assistant": self.assistant}
        turns = [(shapes[message["role"]], message["content"]) for message in messages]
        start = "" if messages[0]["role"] == "system" else self.preamble
        return start + "".join(f"{shape.prefix}{text}{shape.suffix}" for shape, text in turns if shape) + self.opening


def serving_commands(
    shape: ExportFormat,
    folder: PurePath,
    *,
    file: str = "",
    name: str = "my-model",
    base: str = "",
    rank: int = 16,
    vllm: bool = True,
) -> tuple[ServingCommand, ...]:
    """Return what to type to use an export. `file` is the GGUF's name, `base` and `rank` are an adapter's.

    `vllm` is whether vLLM takes that adapter.
    """
    place, model = shlex.quote(str(folder)), shlex.quote(str(folder / file))
    match shape.kind:
        case "safetensors" | "text_model":
            return (
                ServingCommand("vLLM", f"vllm serve {place} --host 127.0.0.1 --served-model-name {shlex.quote(name)}"),
                ServingCommand(
                    "TGI",
                    "docker run --gpus all --shm-size 1g -p 127.0.0.1:8080:80 "
                    f"-v {shlex.quote(f'{folder}:/model:ro')} "
                    "ghcr.io/huggingface/text-generation-inference:latest --model-id /model",
                ),
                ServingCommand("transformers", _python(str(folder))),
            )
        case "gguf":
            return (
                ServingCommand("llama.cpp", f"llama-server -m {model} --jinja --host 127.0.0.1"),
                ServingCommand("llama.cpp, in the terminal", f"llama-cli -m {model} --jinja -cnv"),
            )
        case "ollama":
            create = f"ollama create {shlex.quote(name)} -f {shlex.quote(str(folder / 'Modelfile'))}"
            return (ServingCommand("Ollama", f"{create} && ollama run {shlex.quote(name)}"),)
        case "adapter":
            modules = shlex.quote(f"{name}={folder}")
            room = next((most for most in VLLM_RANKS if most >= rank), rank)
            text = (
                f"vllm serve {shlex.quote(base)} --host 127.0.0.1 --enable-lora --max-lora-rank {room} "
                f"--lora-modules {modules}"
            )
            transformers = ServingCommand("transformers", _python(str(folder)))
            return (ServingCommand("vLLM", text), transformers) if vllm else (transformers,)
        case "gguf_adapter":
            text = f"llama-server -m BASE.gguf --lora {model} --jinja --host 127.0.0.1"
            return (ServingCommand("llama.cpp", text, "BASE.gguf is the base model as a GGUF."),)
        case _:
            return ()


def modelfile(
    file: str, *, stops: list[str], shape: TemplateShape | None, generation: Mapping[str, object] | None = None
) -> str:
    """Return a Modelfile for a GGUF beside it. `generation` is the model's generation config.

    A value of three quotes cannot be written, and Ollama drops what cannot be printed from one; such a stop text, or
    template, is left to the GGUF's own metadata.
    """
    lines = [f"FROM ./{file}"]
    if shape is not None and _is_kept(template := _go_template(shape)):
        lines.append(f'TEMPLATE """{template}"""')
    lines += [
        f"PARAMETER stop {_quoted(text)}" for text in stops if '"' not in text and "\n" not in text and _is_kept(text)
    ]
    lines += [
        f"PARAMETER {name} {value:g}"
        for key, name in _OLLAMA_PARAMETERS.items()
        if isinstance(value := (generation or {}).get(key), int | float) and not isinstance(value, bool)
    ]
    return "\n".join(lines) + "\n"


def _go_template(shape: TemplateShape) -> str:
    """The shape as Ollama's Go template over `.Messages`."""
    roles = [("system", shape.system), ("user", shape.user), ("assistant", shape.assistant)]
    branches = [
        f'{"if" if number == 0 else "else if"} eq .Role "{role}" }}}}{_go_text(turn.prefix)}{{{{ .Content }}}}'
        f"{_go_text(turn.suffix)}"
        for number, (role, turn) in enumerate((role, turn) for role, turn in roles if turn)
    ]
    body = "{{ " + "{{ ".join(branches) + "{{ end }}"
    preamble = _go_text(shape.preamble)
    start = f'{{{{- if ne (index .Messages 0).Role "system" }}}}{preamble}{{{{ end }}}}' if preamble else ""
    return start + "{{- range .Messages }}" + body + "{{ end }}" + _go_text(shape.opening)


def _go_text(text: str) -> str:
    """Braces of two would begin an action, and one at the end would join the next one: they are written by actions."""
    text = text.replace("{{", "\0")
    text = f'{text[:-1]}{{{{ "{{" }}}}' if text.endswith("{") else text
    return text.replace("\0", '{{ "{{" }}')


def _is_kept(text: str) -> bool:
    """Whether Ollama's parser gives a value back as it was written."""
    return '"""' not in text and all(sign.isprintable() or sign in "\n\t" for sign in text)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _python(folder: str) -> str:
    return (
        "from transformers import pipeline\n"
        f'chat = pipeline("text-generation", model={folder!r})\n'
        'print(chat([{"role": "user", "content": "Hello!"}])[0]["generated_text"][-1]["content"])'
    )
