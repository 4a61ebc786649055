"""A real llama.cpp, where the package xllamacpp is installed: it loads a GGUF file, tokenizes, and computes.

The package's own interface is a server; its library has llama.cpp's functions, which are called here by their names.
Structures are handed back as they came, but for how many tokens a context has room for: that is written into the first
field, and asked of the context that was made of it.

No torch here: the library is loaded into light processes of its own alone (`llama_cpp_child`). Beside torch its C++ may
clash, and a build for a card takes some of the card.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.installation import install_command

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32


class _Struct(ctypes.Structure):
    """Parameters as llama.cpp fills them in: larger than they are."""

    _fields_ = (("first", ctypes.c_uint32), ("rest", ctypes.c_byte * 1020))


_LOGGER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _POINTER)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_log_set": (None, (_LOGGER, _POINTER)),
    "llama_backend_init": (None, ()),
    "llama_supports_gpu_offload": (ctypes.c_bool, ()),
    "llama_model_default_params": (_Struct, ()),
    "llama_model_load_from_file": (_POINTER, (ctypes.c_char_p, _Struct)),
    "llama_model_free": (None, (_POINTER,)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)),
    "llama_context_default_params": (_Struct, ()),
    "llama_init_from_model": (_POINTER, (_POINTER, _Struct)),
    "llama_free": (None, (_POINTER,)),
    "llama_n_ctx": (ctypes.c_uint32, (_POINTER,)),
    "llama_set_n_threads": (None, (_POINTER, _INT, _INT)),
    "llama_get_memory": (_POINTER, (_POINTER,)),
    "llama_memory_clear": (None, (_POINTER, ctypes.c_bool)),
    "llama_batch_get_one": (_Struct, (_POINTER, _INT)),
    "llama_decode": (_INT, (_POINTER, _Struct)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (_POINTER, _INT)),
    "llama_vocab_n_tokens": (_INT, (_POINTER,)),
    "llama_vocab_is_eog": (ctypes.c_bool, (_POINTER, _INT)),
    "llama_tokenize": (
        _INT,
        (_POINTER, ctypes.c_char_p, _INT, _POINTER, _INT, ctypes.c_bool, ctypes.c_bool),
    ),
    "llama_detokenize": (
        _INT,
        (_POINTER, _POINTER, _INT, ctypes.c_char_p, _INT, ctypes.c_bool, ctypes.c_bool),
    ),
    "llama_adapter_lora_init": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "llama_set_adapters_lora": (_INT, (_POINTER, _POINTER, ctypes.c_size_t, _POINTER)),
}


CHILD = "qlora_studio.engine.gguf.llama_cpp_child"
_LOADING_SECONDS = 60.0
_FIRST_ROOM, _AT_ONCE = 512, 512  # tokens of a context at first, and that are read in one go


class LlamaCpp:
    """A GGUF file in llama.cpp, with an adapter beside it or without. Raises StudioError where it does not load."""

    def __init__(self, path: Path, *, adapter: Path | None = None, threads: int = 2) -> None:
        self._library = _library()
        if self._library is None:
            raise StudioError(
                say("There is no llama.cpp to load a GGUF file with."),
                kind=FailureKind.TOOL_MISSING,
                advice=say("Install it: {command}", command=install_command("xllamacpp")),
            )
        call = self._library
        _LOG.clear()
        self._path, self._threads, self._adapter, self._context, self._room = path, threads, None, None, 0
        self._model = call.llama_model_load_from_file(str(path).encode(), call.llama_model_default_params())
        if not self._model:
            raise _refused(path)
        self._vocabulary = call.llama_model_get_vocab(self._model)
        if adapter is not None:
            self._adapter = self._loaded(adapter)
        self.begin(_FIRST_ROOM)

    @property
    def rows(self) -> int:
        """How many tokens there are."""
        return int(self._call.llama_vocab_n_tokens(self._vocabulary))

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Return a text's ids, control tokens that stand in it included."""
        data = text.encode()
        ids = (_INT * (len(data) + 8))()
        count = self._call.llama_tokenize(self._vocabulary, data, len(data), ids, len(ids), add_special, True)
        return list(ids[:count])

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        ids = (_INT * len(tokens))(*tokens)
        room = ctypes.create_string_buffer(64 * len(tokens) + 64)
        size = self._call.llama_detokenize(self._vocabulary, ids, len(ids), room, len(room), False, True)
        return room.raw[:size].decode("utf-8", "replace")

    def begin(self, room: int) -> None:
        """Forget every token, and have room for so many. Raises StudioError where there is not."""
        if self._context and room <= self._room:
            self._call.llama_memory_clear(self._call.llama_get_memory(self._context), True)
            return
        self._call.llama_free(self._context)
        wanted = self._call.llama_context_default_params()
        wanted.first = room
        self._context = self._call.llama_init_from_model(self._model, wanted)
        self._room = self._call.llama_n_ctx(self._context) if self._context else 0
        if self._room < room:
            raise _refused(self._path)
        self._call.llama_set_n_threads(self._context, self._threads, self._threads)
        if self._adapter:
            self._use(self._adapter)

    def after(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after tokens that follow those before: (vocabulary,), fp32."""
        for start in range(0, len(tokens), _AT_ONCE):
            self._read(tokens[start : start + _AT_ONCE])
        row = self._call.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(row, (self.rows,)).copy()

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self._call.llama_vocab_is_eog(self._vocabulary, token))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token: (tokens, vocabulary), fp32. One after another, as an answer is made."""
        self.begin(len(tokens))
        return np.stack([self.after([token]) for token in tokens])

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """Return the likeliest answer's ids, without the prompt, up to an end token."""
        found: list[int] = []
        self.begin(len(prompt) + tokens)
        likely = int(self.after(prompt).argmax())
        while len(found) < tokens and not self.is_end(likely):
            found.append(likely)
            likely = int(self.after([likely]).argmax())
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._call.llama_free(self._context)
        self._call.llama_model_free(self._model)

    @property
    def _call(self) -> Any:
        return self._library

    def _read(self, tokens: Sequence[int]) -> None:
        ids = (_INT * len(tokens))(*tokens)
        if code := self._call.llama_decode(self._context, self._call.llama_batch_get_one(ids, len(tokens))):
            raise StudioError(
                say("llama.cpp does not compute: {code}.", code=code), kind=FailureKind.DAMAGED, detail="".join(_LOG)
            )

    def _loaded(self, adapter: Path) -> Any:
        if loaded := self._call.llama_adapter_lora_init(self._model, str(adapter).encode()):
            return loaded
        raise _refused(adapter)

    def _use(self, loaded: Any) -> None:
        adapters, scales = (_POINTER * 1)(loaded), (ctypes.c_float * 1)(1.0)
        if self._call.llama_set_adapters_lora(self._context, adapters, 1, scales):
            raise _refused(self._path)


def has_llama_cpp() -> bool:
    """Whether there is a llama.cpp here that loads."""
    return bool(_kind_found())


def computes_on_card() -> bool:
    """Whether the llama.cpp here was built to use a card."""
    return _kind_found() == "card"


def kind_of_library() -> str:
    """Return what the library was built for, loading it here: card or processor; empty where there is none."""
    library = _library()
    return "" if library is None else "card" if library.llama_supports_gpu_offload() else "processor"


@cache
def _kind_found() -> str:
    if find_spec("xllamacpp") is None:
        return ""
    try:
        code, out, _ = child_process.ask(child_process.python("-m", CHILD), _LOADING_SECONDS)
    except (OSError, TimeoutExpired):
        return ""
    return out.strip() if code == 0 else ""


_LOG: list[str] = []


def _log(level: int, text: bytes, data: Any) -> None:
    _LOG.append(text.decode("utf-8", "replace"))
    del _LOG[:-200]


_KEPT_LOGGER = _LOGGER(_log)  # the library holds no reference to it


@cache
def _library() -> Any:
    spec = find_spec("xllamacpp")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    file = (
        next((file for file in folder.glob("xllamacpp*") if file.suffix in (".so", ".pyd")), None) if folder else None
    )
    if file is None:
        return None
    try:
        library = ctypes.CDLL(str(file))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):  # of another machine, or of a version that exports other names
        return None
    library.llama_log_set(_KEPT_LOGGER, None)
    library.llama_backend_init()
    return library


def _refused(path: Path) -> StudioError:
    why = next((line.strip() for line in reversed(_LOG) if "error" in line), "it does not say why")
    return StudioError(
        say("llama.cpp does not load {name}: {why}", name=path.name, why=why),
        kind=FailureKind.DAMAGED,
        advice=say("Export it again; where that does not help, report it with this sentence."),
        detail="".join(_LOG),
    )
