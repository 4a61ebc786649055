"""GGUF files written here, read back by transformers: the same tensors, the same numbers, the same token ids."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, LlamaTokenizer

from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.gguf_family import GGUF_FAMILIES
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.gguf.adapter import write_gguf_adapter
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.gguf.tokenizer import TokenType
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.gguf.writer import write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from tests.engine.families import load, make_adapter, make_base, make_gemma_like_tokenizer, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TESTED = ["llama", "llama_tied", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "starcoder2"]
TEXTS = [
    "Hello world, it's 12345 o'clock!",
    "  two spaces\n\n\tand tabs\r\n",
    "Grüße aus Köln — 你好, Привет 🙂",
    "<|im_start|>user\nx<|im_end|>\n",
    "def f(x):\n    return x**2  # 10% of 3.14",
]


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def make_whole_base(folder: Path, family: str, dtype: torch.dtype = torch.bfloat16, **more: Any) -> Path:
    return make_tokenizer(make_base(folder, family, dtype=dtype, **more))


@pytest.mark.parametrize("family", TESTED)
def test_a_gguf_holds_the_merged_tensors_bit_for_bit(tmp_path: Path, family: str) -> None:
    base = make_whole_base(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base)
    weights = MergedWeights(base, adapter, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="tiny", precision="bf16", channel=QUIET)
    assert facts["tensors_merged"] > 0
    read = load_gguf(tmp_path / facts["file"], base, dtype=torch.float32).state_dict()
    for name in weights.tensors:
        found, expected = read[name], weights.tensor(name)
        if expected.ndim == 2:
            expected = expected.to(torch.bfloat16).float()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if "norm" in name else 0, msg=name)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize(("precision", "tolerance"), [("f16", 0.002), ("q8_0", 0.01)])
def test_rounded_formats_stay_within_their_precision(
    tmp_path: Path, family: str, precision: str, tolerance: float
) -> None:
    base = make_whole_base(tmp_path / "base", family)
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="tiny", precision=precision, channel=QUIET)
    read = load_gguf(tmp_path / facts["file"], base, dtype=torch.float32).state_dict()
    for name in weights.tensors:
        expected = weights.tensor(name)
        torch.testing.assert_close(read[name], expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize(
    ("precision", "share"), [("q6_K", 0.02), ("q5_K_M", 0.04), ("q4_K_M", 0.08), ("q4_K_S", 0.08), ("q3_K_M", 0.2)]
)
def test_k_quants_are_written_without_any_other_program(tmp_path: Path, precision: str, share: float) -> None:
    base = make_whole_base(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512)
    adapter = make_adapter(tmp_path / "adapter", base)
    weights = MergedWeights(base, adapter, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="tiny", precision=precision, channel=QUIET)
    assert metadata(tmp_path / facts["file"])["general.file_type"] == gguf.LlamaFileType[f"MOSTLY_{precision.upper()}"]
    read = load_gguf(tmp_path / facts["file"], base, dtype=torch.float32).state_dict()
    for name in weights.tensors:
        expected = weights.tensor(name)
        assert (read[name] - expected).norm() <= share * expected.norm(), name


@pytest.mark.parametrize("family", TESTED)
def test_the_numbers_in_a_gguf_are_the_configs(tmp_path: Path, family: str) -> None:
    base = make_whole_base(tmp_path / "base", family)
    facts = write_gguf(
        MergedWeights(base, None, dtype=torch.float32), base, tmp_path, name="x", precision="bf16", channel=QUIET
    )
    found, config = metadata(tmp_path / facts["file"]), AutoConfig.from_pretrained(base)
    name = found["general.architecture"]
    assert found[f"{name}.embedding_length"] == config.hidden_size
    assert found[f"{name}.block_count"] == config.num_hidden_layers
    assert found[f"{name}.attention.head_count"] == config.num_attention_heads
    assert found[f"{name}.attention.head_count_kv"] == config.num_key_value_heads
    is_plain = name == "starcoder2"
    epsilon = found[f"{name}.attention.layer_norm_{'' if is_plain else 'rms_'}epsilon"]
    assert epsilon == pytest.approx(config.norm_epsilon if is_plain else config.rms_norm_eps)
    assert len(found["tokenizer.ggml.tokens"]) == config.vocab_size
    rope = config.rope_parameters
    theta = rope.get("full_attention", rope)["rope_theta"]
    assert found[f"{name}.rope.freq_base"] == pytest.approx(theta)
    tensors = {tensor.name for tensor in gguf.GGUFReader(tmp_path / facts["file"]).tensors}
    assert ("output.weight" in tensors) != bool(config.tie_word_embeddings)


def test_llama3_positions_are_written_as_a_factor_per_frequency(tmp_path: Path) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    base = make_whole_base(tmp_path / "base", "llama", rope_parameters=rope, head_dim=32)
    facts = write_gguf(
        MergedWeights(base, None, dtype=torch.float32), base, tmp_path, name="x", precision="f16", channel=QUIET
    )
    reader = gguf.GGUFReader(tmp_path / facts["file"])
    factors = next(tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    config = AutoConfig.from_pretrained(base)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / (500000.0 ** (torch.arange(0, 32, 2) / 32))
    torch.testing.assert_close(plain / torch.from_numpy(np.array(factors)), expected)


def test_the_tokenizer_in_a_gguf_gives_the_same_ids(tmp_path: Path, tiny_llama: Path) -> None:
    facts = write_gguf(
        MergedWeights(tiny_llama, None, dtype=torch.float32),
        tiny_llama,
        tmp_path,
        name="x",
        precision="q8_0",
        channel=QUIET,
    )
    ours = AutoTokenizer.from_pretrained(tiny_llama)
    read = load_gguf_tokenizer(tmp_path / facts["file"])
    for text in TEXTS:
        assert read(text).input_ids == ours(text).input_ids, text
    assert read.chat_template == ours.chat_template
    assert read.eos_token_id == ours.eos_token_id


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece-like tokenizer with byte fallback, trained on this repository's licence."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    folder = tmp_path_factory.mktemp("spm")
    text = Path("LICENSE").read_text("utf-8")
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    )
    trained.train_from_iterator(text.splitlines(), trainer)
    content = json.loads(trained.to_str())
    content["model"]["byte_fallback"] = True
    content["model"]["fuse_unk"] = True
    content["added_tokens"] = content["added_tokens"][:3]
    backend = Tokenizer.from_str(json.dumps(content))
    backend.decoder = decoders.ByteFallback()
    backend.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    vocab, merges = backend.get_vocab(), content["model"]["merges"]
    tokenizer = LlamaTokenizer(
        vocab={text: number for text, number in vocab.items() if text != "<|end|>"},
        merges=[tuple(merge) for merge in merges],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.save_pretrained(folder)
    return folder


def test_a_sentencepiece_tokenizer_in_a_gguf_gives_the_same_ids(tmp_path: Path, sentencepiece_folder: Path) -> None:
    ours = AutoTokenizer.from_pretrained(sentencepiece_folder)
    base = make_base(tmp_path / "base", "llama", vocab_size=len(ours) + 5)
    facts = write_gguf(
        MergedWeights(base, None, dtype=torch.float32),
        sentencepiece_folder,
        tmp_path,
        name="x",
        precision="q8_0",
        channel=QUIET,
    )
    found = metadata(tmp_path / facts["file"])
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.tokens"][-1] == f"[PAD{len(ours) + 4}]"
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file=facts["file"])
    for text in ["Licensed under the Apache License, Version 2.0", "Grüße 🙂", "x<|end|>y", "a  b"]:
        assert read(text).input_ids == ours(text).input_ids, text


def test_added_tokens_of_spaces_are_written_with_spaces(tmp_path: Path) -> None:
    """llama.cpp looks for added tokens before it turns spaces into U+2581."""
    base = make_gemma_like_tokenizer(make_base(tmp_path / "base", "gemma2", vocab_size=910))
    weights = MergedWeights(base, None, dtype=torch.float32)
    facts = write_gguf(weights, base, tmp_path, name="x", precision="f16", channel=QUIET)
    found, ours = metadata(tmp_path / facts["file"]), AutoTokenizer.from_pretrained(base)
    types = dict(zip(found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], strict=True))
    assert types["    "] == TokenType.USER_DEFINED
    assert types["<unused0>"] == types["<end_of_turn>"] == TokenType.CONTROL
    read = load_gguf_tokenizer(tmp_path / facts["file"])
    for text in ["a    b  c", "  lead", "x<end_of_turn>\ny", "Grüße 🙂"]:
        assert read(text).input_ids == ours(text).input_ids, text


def test_a_way_of_splitting_text_that_is_not_known_is_refused(tmp_path: Path) -> None:
    base = make_whole_base(tmp_path / "base", "llama")
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[aeiou]"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    content["normalizer"] = {"type": "Lowercase"}
    (base / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(StudioError, match="splits text"):
        write_gguf(
            MergedWeights(base, None, dtype=torch.float32), base, tmp_path, name="x", precision="q8_0", channel=QUIET
        )


def test_a_family_that_was_not_tested_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(GGUF_FAMILIES, "gpt2")
    base = make_base(tmp_path / "base", "gpt2")
    with pytest.raises(StudioError, match="gpt2"):
        write_gguf(
            MergedWeights(base, None, dtype=torch.float32), base, tmp_path, name="x", precision="q8_0", channel=QUIET
        )


def test_an_adapter_alone_in_a_gguf_holds_the_same_update(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen3")
    adapter = make_adapter(
        tmp_path / "adapter", base, target_modules=["q_proj", "down_proj"], rank_pattern={"q_proj": 2}
    )
    facts = write_gguf_adapter(base, adapter, tmp_path, name="x")
    reader = gguf.GGUFReader(tmp_path / facts["file"])
    alpha = metadata(tmp_path / facts["file"])["adapter.lora.alpha"]
    parts = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    merged, plain = MergedWeights(base, adapter), load(base).state_dict()
    for name in ("self_attn.q_proj", "mlp.down_proj"):
        place = {"self_attn.q_proj": "blk.1.attn_q", "mlp.down_proj": "blk.1.ffn_down"}[name]
        a, b = parts[f"{place}.weight.lora_a"], parts[f"{place}.weight.lora_b"]
        delta = merged.tensor(f"model.layers.1.{name}.weight") - plain[f"model.layers.1.{name}.weight"]
        torch.testing.assert_close(alpha / a.shape[0] * b @ a, delta, rtol=1e-4, atol=1e-5)
