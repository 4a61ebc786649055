"""What is written here beside what llama.cpp's own converter writes: every tensor's bytes, every number.

The converter's side lies in the folder `reference`; make_reference.py makes it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.model.gguf_family import GGUF_FAMILIES
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from tests.engine.gguf.exact_models import EXACT, exact_base
from tests.engine.gguf.make_reference import REFERENCE, described

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
# Written here and not by the converter, for every family: what llama.cpp otherwise guesses of the tokenizer's texts,
# and the base of rope, which the converter leaves to llama.cpp's default in families that never had another.
_MORE = {
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "rope.freq_base",
}
_FIXED_THERE = {"nemotron": {"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 1}}


@pytest.mark.parametrize("family", EXACT)
def test_a_family_is_written_as_llama_cpps_converter_writes_it(tmp_path: Path, family: str) -> None:
    expected: dict[str, Any] = json.loads((REFERENCE / f"{family}.json").read_text("utf-8"))
    base = exact_base(family, tmp_path / "base")
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="x", precision="f16", channel=QUIET)
    found = described(tmp_path / facts["file"])
    assert found["architecture"] == expected["architecture"]
    assert found["tensors"] == expected["tensors"]
    more = {f"{expected['architecture']}.{name}" for name in _MORE} | _MORE
    ours = {key: value for key, value in found["metadata"].items() if key in expected["metadata"] or key not in more}
    assert ours | _FIXED_THERE.get(family, {}) == expected["metadata"]


def test_every_family_that_is_written_is_compared() -> None:
    assert {name for name, traits in GGUF_FAMILIES.items() if traits.written} == {
        name.partition("+")[0] for name in EXACT
    }
