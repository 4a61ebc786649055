"""A real llama.cpp at work in a process of its own: where it meets what it takes for impossible, it aborts.

Questions and answers are lines of JSON; `llama_cpp_child` answers. Logits, which may be large, come as a file.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.gguf.llama_cpp import CHILD
from qlora_studio.storage.models.location import sound_gguf

_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}
_WITHOUT_CARD = {"CUDA_VISIBLE_DEVICES": ""}


class LlamaCppProcess:
    """A GGUF file in a llama.cpp. Raises StudioError where it does not load, does not compute, or ended.

    It uses a card where it was built for one, unless it is not to.
    """

    def __init__(self, path: Path, *, threads: int = 2, on_card: bool = True) -> None:
        sound_gguf(path)  # llama.cpp is written in C++, and believes more of a file
        self._path = path
        self._folder = TemporaryDirectory()
        self._words = Path(self._folder.name) / "stderr"
        with self._words.open("wb") as words:
            self._child = child_process.start(
                child_process.python("-m", CHILD, str(path.absolute()), str(threads)),
                environment=_ENVIRONMENT if on_card else _ENVIRONMENT | _WITHOUT_CARD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
            )
        try:
            self._answer()
        except StudioError:
            self.close()
            raise

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Return a text's ids, control tokens that stand in it included."""
        return [int(token) for token in self._ask({"text": text, "special": add_special})["ids"]]

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Return the logits after each token: (tokens, vocabulary), fp32."""
        file = Path(self._folder.name) / "logits.npy"
        self._ask({"ids": list(tokens), "file": str(file)})
        return torch.from_numpy(np.load(file))

    def begin(self, room: int, *, temperature: float = 0.0, seed: int = 42) -> None:
        """Forget every token, and have room for so many; how the next ones are chosen. At 0 it is the likeliest."""
        self._ask({"room": room, "temperature": temperature, "seed": seed})

    def next(self, tokens: Sequence[int]) -> int | None:
        """Return the token that is chosen after tokens that follow those before; None where the answer ends."""
        chosen = self._ask({"after": list(tokens)})["chosen"]
        return None if chosen is None else int(chosen)

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()
        self._folder.cleanup()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(question).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: that is what its answer says
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        if line := self._child.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if "error" not in answer:
                return answer
            raise StudioError(answer["error"], kind=FailureKind.DAMAGED, advice=answer["advice"])
        self._child.wait()
        words = self._words.read_text("utf-8", "replace")
        why = next((line.strip() for line in words.splitlines() if "ASSERT" in line or "error" in line.lower()), "")
        raise StudioError(
            say("llama.cpp gives up on {name}", name=self._path.name) + (f": {why.rsplit('/', 1)[-1]}" if why else "."),
            kind=FailureKind.DAMAGED,
            advice=say("Use another format of export, and report it with this sentence."),
            detail=words,
        )


def logits_of_llama_cpp(path: Path, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits after each token of sequences: (tokens, vocabulary), fp32."""
    model = LlamaCppProcess(path)
    try:
        return torch.cat([model.logits(ids) for ids in sequences])
    finally:
        model.close()
