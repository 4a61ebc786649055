"""GGUF files written here, in a real llama.cpp: they load, and answer alike. Needs the package xllamacpp."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, has_llama_cpp
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import quantized, write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.verification.measurement import distributions, divergence, greedy
from tests.engine.families import make_base, make_gemma_like_tokenizer
from tests.engine.gguf.tricky_texts import TRICKY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
PIECES = [*TRICKY, "x<end_of_turn>\n<|im_end|>y", "<unused0><pad>a\r\nb", "a  <end_of_turn>   b", ""]
PROMPT = "<|im_start|>user\nName three colours, and 2 + 35.<|im_end|>\n<|im_start|>assistant\n"


def write(base: Path, folder: Path, precision: str) -> Path:
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, folder, name="x", precision=precision, channel=QUIET)
    return folder / str(facts["file"])


@pytest.mark.parametrize(("precision", "lead"), [("bf16", 0.02), ("q8_0", 0.2), ("q4_K_M", 0.2)])
def test_the_real_model_answers_alike_in_llama_cpp(
    tmp_path: Path, precision: str, lead: float, smollm_folder: Path
) -> None:
    """llama.cpp also rounds what flows between the layers: it may turn elsewhere where two tokens are as likely."""
    path = write(smollm_folder, tmp_path, precision)
    tokenizer = load_gguf_tokenizer(path)
    prompt = tokenizer(PROMPT).input_ids
    read = load_gguf(path, smollm_folder, dtype=torch.float32)
    expected = greedy(read, prompt, [tokenizer.eos_token_id], tokens=12)
    model = LlamaCpp(path)
    assert model.tokenize(PROMPT) == prompt
    found = model.greedy(prompt, 12)
    far = divergence(distributions(read, [prompt]), torch.log_softmax(torch.from_numpy(model.logits(prompt)), dim=-1))
    model.close()
    assert far < 0.01
    same = next((i for i, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 12)
    assert same > 2
    if same < min(len(expected), len(found)):
        with torch.inference_mode():
            logits = read(input_ids=torch.tensor([[*prompt, *expected[:same]]])).logits[0, -1]
        likely = torch.softmax(logits.float(), dim=-1)
        assert likely[expected[same]] - likely[found[same]] < lead


@pytest.mark.parametrize("has_prefix", [False, True])
def test_llama_cpp_gives_the_ids_of_a_tokenizer_of_pieces(tmp_path: Path, has_prefix: bool) -> None:
    base = make_gemma_like_tokenizer(make_base(tmp_path / "base", "gemma2", vocab_size=910), has_prefix=has_prefix)
    ours = AutoTokenizer.from_pretrained(base)
    model = LlamaCpp(write(base, tmp_path, "f16"))
    texts = TRICKY if has_prefix else PIECES  # after an added token the tokenizers library puts another prefix
    parted = [text for text in texts if ours(text, add_special_tokens=False).input_ids != model.tokenize(text)]
    model.close()
    assert parted == []


@pytest.mark.parametrize("name", ["Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("weighed", [False, True], ids=["as they are", "by an importance matrix"])
def test_quantized_rows_are_llama_cpps_byte_for_byte(name: str, weighed: bool) -> None:
    """Zeros, a constant and heavy tails among them; inputs that never flow, too."""
    rows = np.random.default_rng(5).standard_t(3, size=(64, 512)).astype(np.float32) * 0.02
    rows[0], rows[1], rows[2, :256] = 0, 0.5, 0
    kind = gguf.GGMLQuantizationType[name]
    importance = np.random.default_rng(6).standard_normal(512).astype(np.float32) ** 2
    importance[300:340] = 0
    with ThreadPoolExecutor(2) as pool:
        found = quantized(rows, kind, pool, importance if weighed else None)
    expected = ctypes.create_string_buffer(len(found))
    package = import_module("xllamacpp.xllamacpp")
    quantize = ctypes.CDLL(str(package.__file__)).ggml_quantize_chunk
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    quantize.restype = ctypes.c_size_t
    matrix = importance.ctypes.data if weighed else None
    assert quantize(int(kind), rows.ctypes.data, expected, 0, *rows.shape, matrix) == len(found)
    assert found == expected.raw


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
