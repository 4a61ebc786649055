"""Whatever the libraries make of a stranger's model, tokenizer, adapter or GGUF, what is told is an error of ours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.loading import load_plain, load_with_adapter
from tests.engine.families import make_adapter, make_base, make_tokenizer
from tests.storage.models.damage import flipped, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_ODD: tuple[Any, ...] = (None, True, -1, 10**9, 1.5, "", "x", [], ["x"], [None], {}, {"a": 1}, {"type": "x"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(make_base(tmp_path_factory.mktemp("whole") / "base", "llama"))


@pytest.fixture(scope="module")
def whole_adapter(whole: Path) -> Path:
    return make_adapter(whole.parent / "adapter", whole)


@pytest.fixture
def base(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "base"))


@pytest.fixture
def adapter(whole_adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_adapter, tmp_path / "adapter"))


def _every_value(path: Path, reading: Callable[[], object]) -> list[str]:
    """Return what is told where each setting of a file is something odd, one at a time."""
    settings = json.loads(path.read_text())
    words = []
    for number, key in enumerate(settings):
        for value in _ODD[number % 4 :: 4]:
            path.write_text(json.dumps({**settings, key: value}))
            words.append(outcome(reading))
    path.write_text(json.dumps(settings))
    return words


def test_no_value_of_a_config_comes_through_as_another_error(base: Path) -> None:
    words = _every_value(base / "config.json", lambda: meta_model(config_of(base)))
    assert sum(map(bool, words)) > 10


def test_no_value_of_a_tokenizers_settings_comes_through_as_another_error(base: Path) -> None:
    for name in ("tokenizer_config.json", "tokenizer.json"):
        assert any(_every_value(base / name, lambda: tokenizer_of(base)))


def test_no_value_of_an_adapters_settings_comes_through_as_another_error(base: Path, adapter: Path) -> None:
    words = _every_value(adapter / "adapter_config.json", lambda: MergedWeights(base, adapter))
    assert sum(map(bool, words)) > 10


@pytest.mark.parametrize("tensor", [torch.zeros(0, 0), torch.tensor(1.0), None])
def test_weights_of_other_sizes_are_told_wherever_they_are_opened(
    base: Path, adapter: Path, tensor: torch.Tensor | None
) -> None:
    for path in (adapter / "adapter_model.safetensors", base / "model.safetensors"):
        tensors = load_file(path)
        name = next(name for name in sorted(tensors) if "q_proj" in name)
        save_file({key: value for key, value in {**tensors, name: tensor}.items() if value is not None}, path)
        assert outcome(lambda: load_with_adapter(base, adapter, dtype=torch.float32, device="cpu"))
        save_file(tensors, path)
    load_plain(base, dtype=torch.float32, device="cpu")


def test_no_flipped_bit_of_a_gguf_comes_through_as_another_error_of_who_opens_it(base: Path, tmp_path: Path) -> None:
    weights = MergedWeights(base, None, dtype=torch.float32)
    path = tmp_path / str(write_gguf(weights, base, tmp_path, name="x", precision="f16", channel=QUIET)["file"])
    words = []
    for _ in flipped(path, range(0, 8 * 9000, 6007)):
        words.append(outcome(lambda: load_gguf(path, base, dtype=torch.float32)))
        words.append(outcome(lambda: load_gguf_tokenizer(path)))
    assert any(words) and not all(words)


def test_memory_that_ran_out_is_no_fault_of_a_file() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        with pytest.raises(type(error)), told(lambda _: StudioError("It is the file's fault.")):
            raise error


def test_a_library_that_gives_up_in_rust_is_put_into_words() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(StudioError, match="the file's fault"), told(lambda _: StudioError("It is the file's fault.")):
        raise panic("called `Option::unwrap()` on a `None` value")
    with pytest.raises(KeyboardInterrupt), told(lambda _: StudioError("It is the file's fault.")):
        raise KeyboardInterrupt
