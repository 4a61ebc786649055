"""Every family that is written here: as llama.cpp's converter writes it, and read by a real llama.cpp.

The converter's side lies in the folder `reference`; make_reference.py makes it. A real llama.cpp is there where the
package xllamacpp is installed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.gguf_family import GGUF_FAMILIES
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.adapter import write_gguf_adapter
from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, has_llama_cpp
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.verification.measurement import divergence
from tests.engine.families import load, make_adapter
from tests.engine.gguf.exact_models import EXACT, exact_base
from tests.engine.gguf.make_reference import REFERENCE, described

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:The following .* keys did not match"),  # peft's, of patterns that it made itself
]
needs_llama_cpp = pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp")
# Written here and not by the converter, for every family: what llama.cpp otherwise guesses of the tokenizer's texts,
# and the base of rope, which the converter leaves to llama.cpp's default in families that never had another.
_MORE = {
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "rope.freq_base",
}
_FIXED_THERE: dict[str, dict[str, Any]] = {  # whatever the tokenizer says
    "nemotron": {"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 1},
    "nemotron_h": {"tokenizer.ggml.add_bos_token": True},
}
# peft refuses out_proj there, and transformers passes by what is around dt_proj
_MAMBA = ("mamba", "falcon_mamba", "falcon_h1", "nemotron_h")
# transformers weighs its two experts by what is within reach of each of them; llama.cpp as those of other families.
_WEIGHED_OTHERWISE = ("phimoe",)
_OF_ONE_SIZE = ("gemma3n_text",)  # that llama.cpp knows by its layers' number
_COMPUTED = [name for name in EXACT if name not in (*_WEIGHED_OTHERWISE, *_OF_ONE_SIZE)]
_EYES = ("vision", "visual", "projector")
_IDS = [(place * 37 + 11) % 300 for place in range(24)]
_NEAR = 3e-4  # nats a token; llama.cpp rounds what flows to fp16. Rows in another order give 0.003 and more


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def written(place: Path, family: str) -> tuple[Path, Path]:
    """Return a family's base and its GGUF file, made once."""
    base, folder = place / family / "base", place / family / "gguf"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        exact_base(family, base)
        weights = MergedWeights(base, None, dtype=torch.float32)
        write_gguf(weights, base, folder, name="x", precision="f16", channel=QUIET)
    return base, folder / "x-F16.gguf"


def computed_by_transformers(base: Path, adapter: Path | None = None) -> torch.Tensor:
    """Return log-probabilities after each of the ids, of weights rounded to fp16."""
    model = load(base)
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.copy_(parameter.half() if parameter.ndim > 1 else parameter)
    model = PeftModel.from_pretrained(model, adapter).eval() if adapter else model
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([_IDS])).logits[0].float(), dim=-1)


def computed_by_llama_cpp(file: Path, adapter: Path | None = None) -> torch.Tensor:
    """Return log-probabilities after each of the ids."""
    model = LlamaCpp(file, adapter=adapter)
    found = torch.log_softmax(torch.from_numpy(model.logits(_IDS)), dim=-1)
    model.close()
    return found


@pytest.mark.parametrize("family", EXACT)
def test_a_family_is_written_as_llama_cpps_converter_writes_it(place: Path, family: str) -> None:
    expected: dict[str, Any] = json.loads((REFERENCE / f"{family}.json").read_text("utf-8"))
    found = described(written(place, family)[1])
    assert found["architecture"] == expected["architecture"]
    assert found["tensors"] == expected["tensors"]
    more = {f"{expected['architecture']}.{name}" for name in _MORE} | _MORE
    ours = {key: value for key, value in found["metadata"].items() if key in expected["metadata"] or key not in more}
    assert ours | _FIXED_THERE.get(family, {}) == expected["metadata"]


@needs_llama_cpp
@pytest.mark.parametrize("family", _COMPUTED)
def test_a_family_computes_in_llama_cpp_what_it_computes_in_transformers(place: Path, family: str) -> None:
    base, file = written(place, family)
    assert divergence(computed_by_transformers(base), computed_by_llama_cpp(file)) < _NEAR


@needs_llama_cpp
@pytest.mark.parametrize("family", _COMPUTED)
def test_an_adapter_alone_does_in_llama_cpp_what_it_does_in_peft(place: Path, family: str, tmp_path: Path) -> None:
    base, file = written(place, family)
    excluded: Any = ["out_proj", "dt_proj"] if family.startswith(_MAMBA) else _excluded(family)
    adapter = make_adapter(tmp_path / "adapter", base, lora_alpha=16, exclude_modules=excluded)
    alone = tmp_path / str(write_gguf_adapter(base, adapter, tmp_path, name="x")["file"])
    tuned, plain = computed_by_transformers(base, adapter), computed_by_transformers(base)
    assert divergence(tuned, plain) > 30 * _NEAR
    assert divergence(tuned, computed_by_llama_cpp(file, alone)) < _NEAR


def _excluded(family: str) -> str:
    """What is not language, and layers in which llama.cpp passes over adapters."""
    name = family.partition("+")[0]
    kind = GGUF_FAMILIES.get(f"{name}_text") or GGUF_FAMILIES.get(name)
    return rf".*({'|'.join((*_EYES, *(kind.without_adapters if kind else ())))}).*"


def test_an_adapter_that_llama_cpp_would_pass_over_is_refused(place: Path, tmp_path: Path) -> None:
    base, _ = written(place, "deepseek_v3")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_a_proj", "o_proj"])
    with pytest.raises(StudioError, match="q_a_proj"):
        write_gguf_adapter(base, adapter, tmp_path, name="x")
