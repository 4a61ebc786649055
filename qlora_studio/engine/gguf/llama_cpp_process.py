"""A real llama.cpp at work in a process of its own: where it meets what it takes for impossible, it aborts.

Questions and answers are lines of JSON. Logits, which may be large, come as a file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import torch

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp

_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}
_WITHOUT_CARD = {"CUDA_VISIBLE_DEVICES": ""}


class LlamaCppProcess:
    """A GGUF file in a llama.cpp. Raises StudioError where it does not load, does not compute, or ended.

    It uses a card where it was built for one, unless it is not to.
    """

    def __init__(self, path: Path, *, threads: int = 2, on_card: bool = True) -> None:
        self._path = path
        self._folder = TemporaryDirectory()
        self._words = Path(self._folder.name) / "stderr"
        with self._words.open("wb") as words:
            self._child = child_process.start(
                child_process.python("-m", __name__, str(path.absolute()), str(threads)),
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
            f"llama.cpp gives up on {self._path.name}" + (f": {why.rsplit('/', 1)[-1]}" if why else "."),
            kind=FailureKind.DAMAGED,
            advice="Use another format of export, and report it with this sentence.",
            detail=words,
        )


def logits_of_llama_cpp(path: Path, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits after each token of sequences: (tokens, vocabulary), fp32."""
    model = LlamaCppProcess(path)
    try:
        return torch.cat([model.logits(ids) for ids in sequences])
    finally:
        model.close()


def main(path: Path, threads: int) -> None:
    """Answer what is asked on standard input; what the library prints goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        try:
            asked = _Asked(LlamaCpp(path, threads=threads))
            _tell(answers, {})
            for line in sys.stdin:
                _tell(answers, asked.answered(json.loads(line)))
        except StudioError as error:
            _tell(answers, {"error": error.message, "advice": error.advice})


class _Asked:
    def __init__(self, model: LlamaCpp) -> None:
        self._model = model
        self._temperature, self._chance = 0.0, torch.Generator()

    def answered(self, question: dict[str, Any]) -> dict[str, Any]:
        if "text" in question:
            return {"ids": self._model.tokenize(question["text"], add_special=question["special"])}
        if "room" in question:
            self._model.begin(question["room"])
            self._temperature, self._chance = question["temperature"], self._chance.manual_seed(question["seed"])
            return {}
        if "after" in question:
            token = self._choice(self._model.after(question["after"]))
            return {"chosen": None if self._model.is_end(token) else token}
        np.save(question["file"], self._model.logits(question["ids"]).numpy())
        return {}

    def _choice(self, logits: torch.Tensor) -> int:
        """Return a token by logits of shape (vocabulary,)."""
        if self._temperature <= 0:
            return int(logits.argmax())
        return int(torch.multinomial(torch.softmax(logits / self._temperature, -1), 1, generator=self._chance))


def _tell(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
