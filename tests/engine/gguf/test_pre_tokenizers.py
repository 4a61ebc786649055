"""How text is split before byte-level BPE: a real llama.cpp gives the ids of the tokenizers library.

Each tokenizer is trained with its own way of splitting, as the published ones were.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, has_llama_cpp
from qlora_studio.engine.gguf.pre_tokenizers import PRE_TOKENIZERS, pre_tokenizer_name
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from tests.engine.families import make_base, make_gemma_like_tokenizer
from tests.engine.gguf.tricky_texts import MARKS, TRICKY

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_ROWS = 1200
WITHOUT_MARKS = ("tekken", "gpt-4o")  # llama.cpp's own patterns for these know no marks


def trained(folder: Path, name: str) -> Path:
    """Save a model with a tokenizer that splits as `name` says, trained on the licence and the tricky texts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    ignores = name in ("llama-bpe", "tekken")
    content = json.loads(Tokenizer(models.BPE(ignore_merges=ignores)).to_str())
    content["pre_tokenizer"] = PRE_TOKENIZERS[name]
    made = Tokenizer.from_str(json.dumps(content))
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=_ROWS - 8, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator([*Path("LICENSE").read_text("utf-8").splitlines(), *TRICKY * 3], trainer)
    made.add_tokens([AddedToken("<tool>", normalized=False)])
    make_base(folder, "llama", vocab_size=_ROWS)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>").save_pretrained(folder)
    return folder


def test_there_are_two_hundred_tricky_texts() -> None:
    assert len(set(TRICKY)) >= 200


@pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp")
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_llama_cpp_splits_as_the_tokenizer_does(tmp_path: Path, name: str) -> None:
    base = trained(tmp_path / "base", name)
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="x", precision="f16", channel=QUIET)
    ours: Any = AutoTokenizer.from_pretrained(base)
    read = LlamaCpp(tmp_path / facts["file"])
    parted = [text for text in TRICKY if ours(text, add_special_tokens=False).input_ids != read.tokenize(text)]
    read.close()
    assert [text for text in parted if name not in WITHOUT_MARKS or not text.startswith(MARKS)] == []


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_a_way_of_splitting_is_known_by_its_own_form(name: str) -> None:
    is_sure = name in ("llama-bpe", "tekken")
    tokenizer = {"pre_tokenizer": PRE_TOKENIZERS[name], "model": {"ignore_merges": is_sure}}
    assert pre_tokenizer_name(tokenizer) == name


def test_a_pattern_that_gives_nothing_back_is_the_same_pattern() -> None:
    pattern = (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    steps = [split, PRE_TOKENIZERS["dbrx"]["pretokenizers"][1]]
    assert pre_tokenizer_name({"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": {}}) == "dbrx"


def test_words_taken_whole_are_not_put_together_of_pieces() -> None:
    tokenizer = {"pre_tokenizer": PRE_TOKENIZERS["qwen2"], "model": {"ignore_merges": True}}
    assert pre_tokenizer_name(tokenizer) is None


@pytest.mark.parametrize(("family", "more"), [("gemma3", {}), ("gemma4", {"vocab_size_per_layer_input": 910})])
def test_pieces_are_joined_as_the_tokenizer_joins_them(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    """By scores, and for Gemma 4 by the merges themselves: of a file, and by a real llama.cpp where there is one."""
    base = make_gemma_like_tokenizer(make_base(tmp_path / "base", f"{family}_wrapper", vocab_size=910, **more))
    weights = MergedWeights(base, None, dtype=torch.float32)
    file = tmp_path / str(write_gguf(weights, base, tmp_path, name="x", precision="f16", channel=QUIET)["file"])
    ours: Any = AutoTokenizer.from_pretrained(base)
    expected = {text: ours(text, add_special_tokens=False).input_ids for text in TRICKY}
    read = load_gguf_tokenizer(file)
    assert [text for text in TRICKY if read(text, add_special_tokens=False).input_ids != expected[text]] == []
    if has_llama_cpp():
        real = LlamaCpp(file)
        assert [text for text in TRICKY if real.tokenize(text) != expected[text]] == []
        real.close()
