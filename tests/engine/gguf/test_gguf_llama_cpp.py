"""GGUF files written here, in a real llama.cpp: they load, and answer alike. Needs llama-cpp-python, or its ik fork."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.adapter import write_gguf_adapter
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import quantized, write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.verification.measurement import distributions, divergence, greedy
from tests.engine.families import make_adapter, make_base, make_gemma_like_tokenizer, make_tokenizer
from tests.engine.gguf.real_llama_cpp import RealLlamaCpp, library, tokenized

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
_F16 = {"name": "x", "precision": "f16"}
TRICKY = [
    "a    b  c",
    "  lead and trail  ",
    "Grüße aus Köln, 你好, Привет 🙂",
    "x<end_of_turn>\n<|im_end|>y",
    "\n\n\n  \t 12345 3.14",
    "it's o'clock, I'LL don't",
    "def f(x):\n    return x**2\n",
    "<unused0><pad>a\r\nb",
    "",
]
PROMPT = "<|im_start|>user\nName three colours, and 2 + 35.<|im_end|>\n<|im_start|>assistant\n"


def write(base: Path, folder: Path, precision: str) -> Path:
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, folder, name="x", precision=precision, channel=QUIET)
    return folder / str(facts["file"])


def answer_of_llama_cpp(path: Path, prompt: list[int], tokens: int, *, adapter: Path | None = None) -> list[int]:
    model = RealLlamaCpp(path, adapter=adapter)
    try:
        return model.greedy(prompt, tokens)
    finally:
        model.close()


@pytest.mark.parametrize("family", ["llama", "llama_tied", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"])
def test_a_family_answers_alike_in_llama_cpp(tmp_path: Path, family: str) -> None:
    """Large random weights: an order of rows or a norm that is wrong gives other tokens at once.

    llama.cpp knows Gemma by its number of layers.
    """
    layers = 26 if family.startswith("gemma") else 2
    base = make_tokenizer(make_base(tmp_path / "base", family, initializer_range=0.3, num_hidden_layers=layers))
    path = write(base, tmp_path, "f16")
    prompt = list(range(5, 25))
    expected = greedy(load_gguf(path, base, dtype=torch.float32), prompt, [], tokens=4)
    assert answer_of_llama_cpp(path, prompt, 4) == expected


@pytest.mark.parametrize(("precision", "lead"), [("bf16", 0.02), ("q8_0", 0.1)])
def test_the_real_model_answers_alike_in_llama_cpp(
    tmp_path: Path, precision: str, lead: float, smollm_folder: Path
) -> None:
    """llama.cpp also rounds what flows between the layers: it may turn elsewhere where two tokens are as likely."""
    path = write(smollm_folder, tmp_path, precision)
    tokenizer = load_gguf_tokenizer(path)
    prompt = tokenizer(PROMPT).input_ids
    model = RealLlamaCpp(path)
    assert model.tokenize(PROMPT) == prompt
    model.close()
    read = load_gguf(path, smollm_folder, dtype=torch.float32)
    expected = greedy(read, prompt, [tokenizer.eos_token_id], tokens=12)
    found = answer_of_llama_cpp(path, prompt, 12)
    same = next((i for i, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 12)
    assert same > 2
    if same < min(len(expected), len(found)):
        with torch.inference_mode():
            logits = read(input_ids=torch.tensor([[*prompt, *expected[:same]]])).logits[0, -1]
        likely = torch.softmax(logits.float(), dim=-1)
        assert likely[expected[same]] - likely[found[same]] < lead


@pytest.mark.parametrize(
    ("family", "make", "size"),
    [
        ("gemma2", make_gemma_like_tokenizer, 910),
        ("qwen2", make_tokenizer, 320),
        ("starcoder2", make_tokenizer, 320),
    ],
)
def test_llama_cpp_gives_the_ids_of_the_tokenizer_that_was_written(
    tmp_path: Path, family: str, make: Callable[[Path], Path], size: int
) -> None:
    base = make(make_base(tmp_path / "base", family, vocab_size=size))
    ours = AutoTokenizer.from_pretrained(base)
    expected = [ours(text, add_special_tokens=False).input_ids for text in TRICKY]
    assert tokenized(write(base, tmp_path, "f16"), TRICKY) == expected


@pytest.mark.parametrize("name", ["Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q5_0", "Q5_1"])
def test_quantized_rows_are_llama_cpps_byte_for_byte(name: str) -> None:
    """Zeros, a constant and heavy tails among them."""
    rows = np.random.default_rng(5).standard_t(3, size=(64, 512)).astype(np.float32) * 0.02
    rows[0], rows[1], rows[2, :256] = 0, 0.5, 0
    kind = gguf.GGMLQuantizationType[name]
    with ThreadPoolExecutor(2) as pool:
        found = quantized(rows, kind, pool)
    expected = ctypes.create_string_buffer(len(found))
    quantize = library().ggml_quantize_chunk
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    quantize.restype = ctypes.c_size_t
    assert quantize(int(kind), rows.ctypes.data, expected, 0, *rows.shape, None) == len(found)
    assert found == expected.raw


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_adapter_alone_beside_its_base_answers_as_the_merged_model(tmp_path: Path, family: str) -> None:
    base = make_tokenizer(make_base(tmp_path / "base", family, initializer_range=0.3))
    adapter = make_adapter(tmp_path / "adapter", base, lora_alpha=64, target_modules=["q_proj", "k_proj", "down_proj"])
    alone = tmp_path / str(write_gguf_adapter(base, adapter, tmp_path, name="x")["file"])
    weights = MergedWeights(base, adapter, dtype=torch.float32)
    (tmp_path / "merged").mkdir()
    merged = tmp_path / "merged" / str(write_gguf(weights, base, tmp_path / "merged", **_F16, channel=QUIET)["file"])
    plain, prompt = write(base, tmp_path, "f16"), list(range(5, 25))
    answers = [
        answer_of_llama_cpp(merged, prompt, 4),
        answer_of_llama_cpp(plain, prompt, 4, adapter=alone),
        answer_of_llama_cpp(plain, prompt, 4),
    ]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(("precision", "limit"), [("q6_K", 0.05), ("q4_K_M", 0.3)])
def test_k_quants_of_the_real_model_stay_near_it(
    tmp_path: Path, precision: str, limit: float, smollm_folder: Path
) -> None:
    path = write(smollm_folder, tmp_path, precision)
    prompt = load_gguf_tokenizer(path)(PROMPT).input_ids
    whole = distributions(
        load_gguf(write(smollm_folder, tmp_path, "bf16"), smollm_folder, dtype=torch.float32), [prompt]
    )
    rounded = distributions(load_gguf(path, smollm_folder, dtype=torch.float32), [prompt])
    assert 0 < divergence(whole, rounded) < limit
