"""What answers in a chat: a model of transformers, or a GGUF file in a llama.cpp."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from qlora_studio.core.run.commands import Ask
from qlora_studio.engine.gguf.llama_cpp_process import LlamaCppProcess
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.model.generation import AnswerStreamer, answer, prompt_inputs
from qlora_studio.engine.templates.prompting import Prompting


class Answering(Protocol):
    """A model with the tokenizer of its own files. `way` is one of ANSWER_WAYS."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""

    @property
    def way(self) -> str:
        """How it computes."""

    @property
    def held_bytes(self) -> int:
        """What it takes."""

    @property
    def on_card(self) -> bool:
        """Whether it takes that of the card."""

    def answer(self, ask: Ask, on_text: Callable[[str], None], stopped: Callable[[], bool]) -> str:
        """Return the answer to a conversation, told as it comes."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class TorchModel:
    """A model of transformers."""

    model: Any
    tokenizer: Any
    way: str = ""
    prompting: Prompting = field(default_factory=Prompting)

    @property
    def held_bytes(self) -> int:
        """What its weights take."""
        return sum(item.nbytes for item in [*self.model.parameters(), *self.model.buffers()])

    @property
    def on_card(self) -> bool:
        """Whether they lie on the card."""
        return bool(self.model.device.type == "cuda")

    def answer(self, ask: Ask, on_text: Callable[[str], None], stopped: Callable[[], bool]) -> str:
        """Return the answer to a conversation, told as it comes."""
        return answer(
            self.model,
            self.tokenizer,
            ask.messages,
            prompting=self.prompting,
            max_new_tokens=ask.max_new_tokens,
            temperature=ask.temperature,
            seed=ask.seed,
            on_text=on_text,
            stopped=stopped,
        )

    def close(self) -> None:
        """Nothing: it goes with the last that knows it."""


class LlamaCppModel:
    """A GGUF file in a llama.cpp, in a process of its own."""

    way = "llama_cpp"

    def __init__(self, path: Path, *, on_card: bool, prompting: Prompting | None = None) -> None:
        self._prompting = prompting or Prompting()
        self.tokenizer = load_gguf_tokenizer(path)
        self.held_bytes, self.on_card = path.stat().st_size, on_card
        self._process = LlamaCppProcess(path, threads=torch.get_num_threads(), on_card=on_card)

    def answer(self, ask: Ask, on_text: Callable[[str], None], stopped: Callable[[], bool]) -> str:
        """Return the answer to a conversation, told as it comes."""
        prompt = prompt_inputs(self.tokenizer, ask.messages, self._prompting)["input_ids"]
        streamer: Any = AnswerStreamer(self.tokenizer, on_text)
        streamer.put(prompt)
        new: list[int] = prompt[0].tolist()
        chosen: list[int] = []
        self._process.begin(len(new) + ask.max_new_tokens, temperature=ask.temperature, seed=ask.seed)
        while len(chosen) < ask.max_new_tokens and not stopped() and (token := self._process.next(new)) is not None:
            new = [token]
            chosen.append(token)
            streamer.put(torch.tensor(new))
        streamer.end()
        return str(self.tokenizer.decode(chosen, skip_special_tokens=True)).strip()

    def close(self) -> None:
        """End its process."""
        self._process.close()
