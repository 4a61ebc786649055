"""What is read back of a GGUF is what was written into it: weights of every family, and its tokenizer."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.pre_tokenizers import PRE_TOKENIZERS
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.loading import load_plain
from tests.engine.gguf.exact_models import EACH, exact_base
from tests.engine.gguf.test_pre_tokenizers import WITHOUT_MARKS, trained
from tests.engine.gguf.tricky_texts import MARKS, TRICKY

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def write(base: Path, folder: Path) -> Path:
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, folder, name="x", precision="bf16", channel=QUIET)
    return folder / str(facts["file"])


@pytest.mark.parametrize("family", EACH)
def test_a_family_is_read_back_as_it_was_written(tmp_path: Path, family: str) -> None:
    base = exact_base(family, tmp_path / "base")
    found = load_gguf(write(base, tmp_path), base, dtype=torch.float32).state_dict()
    expected = load_plain(base, dtype=torch.float32, device="cpu").state_dict()
    for name, tensor in found.items():
        wanted = expected[name].reshape(tensor.shape)
        torch.testing.assert_close(tensor, wanted, rtol=0.01, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_a_tokenizer_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    base = trained(tmp_path / "base", name)
    read, ours = load_gguf_tokenizer(write(base, tmp_path)), AutoTokenizer.from_pretrained(base)
    parted = [text for text in TRICKY if read(text).input_ids != ours(text).input_ids]
    assert [text for text in parted if name not in WITHOUT_MARKS or not text.startswith(MARKS)] == []
    assert read.decode(read("Grüße 🙂<|im_end|>").input_ids) == "Grüße 🙂<|im_end|>"
