"""A real llama.cpp for tests: of the package llama-cpp-python where it is installed, else of its ik fork.

The package xllamacpp is one too: it tokenizes, and quantizes rows, by its library's own functions.
"""

import ctypes
from collections.abc import Sequence
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


class _Struct(ctypes.Structure):
    """Parameters of llama.cpp as it fills them in: larger than they are, and handed back as they came."""

    _fields_ = (("bytes", ctypes.c_byte * 1024),)


def library() -> ctypes.CDLL:
    """Return llama.cpp's library, of the package xllamacpp."""
    package = pytest.importorskip("xllamacpp.xllamacpp", reason="no llama.cpp to ask: pip install xllamacpp")
    return ctypes.CDLL(package.__file__)


def tokenized(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids that llama.cpp gives texts, control tokens included, without a beginning token."""
    llama = library()
    llama.llama_model_default_params.restype = _Struct
    llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Struct]
    llama.llama_model_load_from_file.restype = ctypes.c_void_p
    llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    llama.llama_model_get_vocab.restype = ctypes.c_void_p
    llama.llama_model_free.argtypes = [ctypes.c_void_p]
    llama.llama_tokenize.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_bool,
        ctypes.c_bool,
    ]
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    assert model, f"llama.cpp does not load {path.name}"
    vocabulary, found = llama.llama_model_get_vocab(model), []
    for text in texts:
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = llama.llama_tokenize(vocabulary, data, len(data), ids, len(ids), False, True)
        found.append(list(ids[:count]))
    llama.llama_model_free(model)
    return found
