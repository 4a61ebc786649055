"""A real llama.cpp for tests: of the package llama-cpp-python where it is installed, else of its ik fork."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


class RealLlamaCpp:
    """A GGUF file in llama.cpp, on the processor, with an adapter beside it or without."""

    def __init__(self, path: Path, *, adapter: Path | None = None, tokens: int = 256) -> None:
        self.is_fork = find_spec("llama_cpp") is None
        if self.is_fork:
            fork = pytest.importorskip("ik_llama_cpp", reason="no llama.cpp to load them with: see make test-slow")
            if adapter is not None:
                pytest.skip("the ik fork's package loads no adapter")
            self._model: Any = fork.IkLlama(str(path), n_ctx=tokens, n_threads=2, flash_attn=False, verbose=False)
        else:
            self._model = import_module("llama_cpp").Llama(
                str(path),
                lora_path=str(adapter) if adapter else None,
                n_ctx=tokens,
                n_threads=2,
                n_threads_batch=2,
                verbose=False,
            )

    def tokenize(self, text: str) -> list[int]:
        """Return a text's ids, control tokens included, without a beginning token."""
        if self.is_fork:
            return list(self._model.tokenize(text, add_bos=False, special=True))
        return list(self._model.tokenize(text.encode(), add_bos=False, special=True))

    def greedy(self, prompt: list[int], tokens: int) -> list[int]:
        """Return the likeliest answer's ids, without the prompt, up to an end token."""
        if self.is_fork:
            return list(self._model.generate(prompt, max_tokens=tokens, temperature=0.0))
        found: list[int] = []
        for token in self._model.generate(prompt, temp=0.0):
            if len(found) == tokens or token == self._model.token_eos():
                break
            found.append(int(token))
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._model.close()
