"""GGUF files written here, in a real llama.cpp: they load, and answer alike. Needs ik-llama-cpp-python."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.engine.context import JobContext
from qlora_studio.engine.gguf_export import write_gguf
from qlora_studio.engine.gguf_reading import load_gguf, load_gguf_tokenizer
from qlora_studio.engine.llama_cpp import find_program
from qlora_studio.engine.measurement import distributions, divergence, greedy
from qlora_studio.engine.merged_weights import MergedWeights
from qlora_studio.storage.run_folder import RunFolder
from tests.engine.families import make_base, make_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
PROMPT = "<|im_start|>user\nName three colours, and 2 + 35.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    (tmp_path / "job").mkdir()
    return JobContext(RunFolder(tmp_path / "job"))


def write(base: Path, folder: Path, precision: str, context: JobContext) -> Path:
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, folder, name="x", precision=precision, context=context)
    return folder / str(facts["file"])


def answer_of_llama_cpp(path: Path, prompt: list[int], tokens: int) -> list[int]:
    llama_cpp = pytest.importorskip("ik_llama_cpp", reason="no llama.cpp to load them with: see make test-slow")
    model: Any = llama_cpp.IkLlama(str(path), n_ctx=256, n_threads=2, flash_attn=False, verbose=False)
    try:
        found: list[int] = model.generate(prompt, max_tokens=tokens, temperature=0.0)
        return found
    finally:
        model.close()


@pytest.mark.parametrize("family", ["llama", "llama_tied", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"])
def test_a_family_answers_alike_in_llama_cpp(tmp_path: Path, family: str, context: JobContext) -> None:
    """Large random weights: an order of rows or a norm that is wrong gives other tokens at once.

    llama.cpp knows Gemma by its number of layers.
    """
    layers = 26 if family.startswith("gemma") else 2
    base = make_tokenizer(make_base(tmp_path / "base", family, initializer_range=0.3, num_hidden_layers=layers))
    path = write(base, tmp_path, "f16", context)
    prompt = list(range(5, 25))
    expected = greedy(load_gguf(path, base, dtype=torch.float32), prompt, [], tokens=4)
    assert answer_of_llama_cpp(path, prompt, 4) == expected


@pytest.mark.parametrize("precision", ["bf16", "q8_0"])
def test_the_real_model_answers_alike_in_llama_cpp(
    tmp_path: Path, precision: str, smollm_folder: Path, context: JobContext
) -> None:
    path = write(smollm_folder, tmp_path, precision, context)
    tokenizer = load_gguf_tokenizer(path)
    prompt = tokenizer(PROMPT).input_ids
    llama_cpp = pytest.importorskip("ik_llama_cpp", reason="no llama.cpp to load them with: see make test-slow")
    model: Any = llama_cpp.IkLlama(str(path), n_ctx=256, n_threads=2, flash_attn=False, verbose=False)
    assert model.tokenize(PROMPT, add_bos=False, special=True) == prompt
    model.close()
    expected = greedy(load_gguf(path, smollm_folder, dtype=torch.float32), prompt, [tokenizer.eos_token_id], tokens=12)
    assert answer_of_llama_cpp(path, prompt, 12)[:6] == expected[:6]


@pytest.mark.parametrize(("precision", "limit"), [("q6_K", 0.05), ("q4_K_M", 0.3)])
def test_k_quants_of_the_real_model_stay_near_it(
    tmp_path: Path, precision: str, limit: float, smollm_folder: Path, context: JobContext
) -> None:
    if find_program("llama-quantize") is None:
        pytest.skip("no llama-quantize on this machine")
    path = write(smollm_folder, tmp_path, precision, context)
    prompt = load_gguf_tokenizer(path)(PROMPT).input_ids
    whole = distributions(
        load_gguf(write(smollm_folder, tmp_path, "bf16", context), smollm_folder, dtype=torch.float32), [prompt]
    )
    rounded = distributions(load_gguf(path, smollm_folder, dtype=torch.float32), [prompt])
    assert 0 < divergence(whole, rounded) < limit
    assert not list(tmp_path.glob("*-F16.gguf"))
