"""A llama.cpp that aborts takes its own process along and nothing else; what it does not load is said in its words."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, has_llama_cpp
from qlora_studio.engine.gguf.llama_cpp_process import LlamaCppProcess
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from tests.engine.families import make_base, make_tokenizer

RunPython = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [
    pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def write(folder: Path, family: str) -> Path:
    base = make_tokenizer(make_base(folder / "base", family))
    weights = MergedWeights(base, None, dtype=torch.float32)
    return folder / str(write_gguf(weights, base, folder, name="x", precision="f16", channel=QUIET)["file"])


def test_it_gives_what_a_llama_cpp_in_this_process_gives(tmp_path: Path) -> None:
    file = write(tmp_path, "llama")
    here, there = LlamaCpp(file), LlamaCppProcess(file)
    text, ids = "<|im_start|>user\nGrüße 🙂\n", [5, 6, 7]
    assert there.tokenize(text) == here.tokenize(text)
    assert torch.equal(there.logits(ids), torch.from_numpy(here.logits(ids)))
    here.close()
    there.close()


def test_words_are_drawn_by_the_seed_and_the_likeliest_is_taken_at_temperature_0(tmp_path: Path) -> None:
    process = LlamaCppProcess(write(tmp_path, "llama"))
    drawn = {seed: draw(process, temperature=1.0, seed=seed) for seed in (1, 2)}
    assert draw(process, temperature=1.0, seed=1) == drawn[1] != drawn[2]
    assert draw(process)[0] == int(process.logits([5, 6, 7])[-1].argmax())
    process.close()


def draw(process: LlamaCppProcess, **how: float) -> list[int | None]:
    process.begin(16, **how)  # type: ignore[arg-type]
    first = process.next([5, 6, 7])
    return [first, *(process.next([5]) for _ in range(8))]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has loaded")
def test_who_asks_whether_there_is_a_llama_cpp_loads_none_and_what_loads_it_has_no_torch(run_python: RunPython) -> None:
    """Beside what else a worker has loaded, its C++ may clash; a build for a card takes some of the card."""
    run_python(
        "from pathlib import Path\n"
        "from qlora_studio.engine.gguf.llama_cpp import has_llama_cpp\n"
        "assert has_llama_cpp()\n"
        "assert 'xllamacpp' not in Path('/proc/self/maps').read_text()\n"
    )
    run_python("import sys, qlora_studio.engine.gguf.llama_cpp_child\nassert 'torch' not in sys.modules")


def test_an_abort_is_an_error_in_words(tmp_path: Path) -> None:
    """Positions that turn more numbers than these small heads have: llama.cpp asserts that they do not."""
    process = LlamaCppProcess(write(tmp_path, "qwen3_5_wrapper"))
    with pytest.raises(StudioError, match=r"gives up on x-F16\.gguf: .*GGML_ASSERT") as caught:
        process.logits([5, 6])
    assert caught.value.advice
    process.close()


def test_a_file_that_does_not_load_says_why(tmp_path: Path) -> None:
    file = write(tmp_path, "llama")
    file.write_bytes(file.read_bytes().replace(b"llama", b"lxama"))  # of no architecture that it knows
    with pytest.raises(StudioError, match=r"does not load x-F16\.gguf: .+"):
        LlamaCppProcess(file)
