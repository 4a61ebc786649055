"""The process that llama.cpp works in: answers `LlamaCppProcess`; without a file it says what it was built for."""

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, kind_of_library


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
        self._temperature, self._chance = 0.0, np.random.default_rng()

    def answered(self, question: dict[str, Any]) -> dict[str, Any]:
        if "text" in question:
            return {"ids": self._model.tokenize(question["text"], add_special=question["special"])}
        if "room" in question:
            self._model.begin(question["room"])
            self._temperature, self._chance = question["temperature"], np.random.default_rng(question["seed"])
            return {}
        if "after" in question:
            token = self._choice(self._model.after(question["after"]))
            return {"chosen": None if self._model.is_end(token) else token}
        np.save(question["file"], self._model.logits(question["ids"]))
        return {}

    def _choice(self, logits: NDArray[np.float32]) -> int:
        """Return a token by logits of shape (vocabulary,)."""
        if self._temperature <= 0:
            return int(logits.argmax())
        likely = np.exp((logits.astype(np.float64) - logits.max()) / self._temperature)
        return int(self._chance.choice(len(likely), p=likely / likely.sum()))


def _tell(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 1 else print(kind_of_library())
