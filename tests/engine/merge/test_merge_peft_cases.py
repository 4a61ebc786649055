"""PEFT's own published cases for merging, through our merge: equal to `merge_and_unload`, or refused by name.

The cases are those of huggingface/peft: tests/test_custom_models.py (TEST_CASES, MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES),
tests/test_decoder_models.py with tests/testing_common.py (_test_merge_layers, _multi, _nan, _fp16),
tests/test_target_parameters.py, tests/test_trainable_tokens.py, tests/test_initialization.py and
tests/test_lora_variants.py. The models are our own, of the same shapes; none of their code is here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
)
from transformers.pytorch_utils import Conv1D

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.merge.writer import merge_adapter
from tests.engine.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL: dict[str, Any] = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


class Named(nn.Module):
    """Layers under the names that the cases target; a merge needs no forward pass."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def mlp() -> nn.Module:
    return Named(lin0=nn.Linear(10, 20), lin1=nn.Linear(20, 2))


def deep_mlp() -> nn.Module:
    blocks = [Named(lin0=nn.Linear(10, 20), lin1=nn.Linear(20, 10)) for _ in range(4)]
    return Named(layers=nn.ModuleList(blocks), out=nn.Linear(10, 2))


def emb_conv1d() -> nn.Module:
    return Named(emb=nn.Embedding(100, 5), conv1d=Conv1D(3, 5), lin0=nn.Linear(10, 2))


CONVOLUTIONS: dict[str, nn.Module] = {
    "conv1d": nn.Conv1d(5, 10, 1),
    "conv2d": nn.Conv2d(5, 10, 3),
    "conv3d": nn.Conv3d(5, 10, 3),
}

# Name in TEST_CASES: the model's shape, and the LoraConfig.
CUSTOM: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "Vanilla MLP 1 LoRA": (mlp, {"target_modules": "lin0"}),
    "Vanilla MLP 2 LoRA": (mlp, {"target_modules": ["lin0"]}),
    "Vanilla MLP 3 LoRA": (mlp, {"target_modules": ["lin1"]}),
    "Vanilla MLP 4 LoRA": (mlp, {"target_modules": ["lin0", "lin1"]}),
    "Vanilla MLP 5 LoRA": (mlp, {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    "Vanilla MLP 6 LoRA": (mlp, {"target_modules": ["lin0"], "lora_alpha": 4, "lora_dropout": 0.1}),
    "Vanilla MLP 7 LoRA with DoRA": (mlp, {"target_modules": ["lin0"], "use_dora": True}),
    "Vanilla MLP 8 LoRA with DoRA": (mlp, {"target_modules": ["lin0", "lin1"], "use_dora": True}),
    "Vanilla MLP 9 LoRA with DoRA": (mlp, {"target_modules": "lin1", "use_dora": True, "lora_alpha": 32}),
    "Embedding + transformers Conv1D 1 LoRA": (emb_conv1d, {"target_modules": ["conv1d"]}),
    "Embedding + transformers Conv1D 2 LoRA": (emb_conv1d, {"target_modules": ["emb"]}),
    "Embedding + transformers Conv1D 3 LoRA": (emb_conv1d, {"target_modules": ["emb", "conv1d"]}),
    "Embedding with DoRA": (emb_conv1d, {"target_modules": ["emb"], "use_dora": True}),
    "Conv1D with DoRA": (emb_conv1d, {"target_modules": ["conv1d"], "use_dora": True}),
    "trainable tokens beside Conv1D": (
        emb_conv1d,
        {"target_modules": ["conv1d"], "trainable_token_indices": {"emb": [0, 10]}},
    ),
    "rsLoRA": (mlp, {"target_modules": ["lin0", "lin1"], "use_rslora": True, "r": 4}),
    "lora_bias": (mlp, {"target_modules": ["lin0", "lin1"], "lora_bias": True}),
    "bias all": (mlp, {"target_modules": ["lin0"], "bias": "all"}),
    "bias lora_only": (mlp, {"target_modules": ["lin0"], "bias": "lora_only"}),
    "rank and alpha pattern": (
        mlp,
        {"target_modules": ["lin0", "lin1"], "rank_pattern": {"lin0": 3}, "alpha_pattern": {"lin1": 21}},
    ),
    "rank and alpha pattern, a full name": (
        deep_mlp,
        {
            "target_modules": ["lin0"],
            "rank_pattern": {"layers.1.lin0": 3},
            "alpha_pattern": {"^layers.1.lin0": 5, "layers.2.lin0": 7},
            "use_rslora": True,
        },
    ),
    "layers_to_transform": (
        deep_mlp,
        {"target_modules": ["lin0"], "layers_to_transform": [1, 3], "layers_pattern": "layers"},
    ),
    "exclude_modules": (deep_mlp, {"target_modules": ["lin0", "lin1"], "exclude_modules": r".*layers\.2\.lin1"}),
    "all-linear by a regex": (deep_mlp, {"target_modules": r".*\.(lin0|lin1)"}),
    "Orthogonal initialization": (mlp, {"target_modules": ["lin0"], "init_lora_weights": "orthogonal"}),
    "MiCA": (mlp, {"target_modules": ["lin0"], "init_lora_weights": "mica", "r": 2}),
    "VeLoRA": (mlp, {"target_modules": ["lin0"], "velora_config": {"num_groups": 2, "init_type": "random"}}),
}

# tests/test_decoder_models.py: PEFT_DECODER_MODELS_TO_TEST, as tiny random models; peft's default targets.
DECODERS: dict[str, Callable[[], PreTrainedConfig]] = {
    "OPTForCausalLM": lambda: OPTConfig(
        hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32, **SMALL
    ),
    "GPTNeoXForCausalLM": lambda: GPTNeoXConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, **SMALL
    ),
    "GPT2LMHeadModel": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, **SMALL),
    "BloomForCausalLM": lambda: BloomConfig(hidden_size=32, n_layer=2, n_head=4, **SMALL),
    "GPTNeoForCausalLM": lambda: GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], **SMALL
    ),
    "GPTJForCausalLM": lambda: GPTJConfig(n_embd=32, n_layer=2, n_head=4, rotary_dim=4, **SMALL),
    "GPTBigCodeForCausalLM": lambda: GPTBigCodeConfig(n_embd=32, n_layer=2, n_head=4, **SMALL),
    "LlamaForCausalLM": lambda: FAMILIES["llama"](**SMALL),
    "Gemma3ForCausalLM": lambda: FAMILIES["gemma3"](**SMALL),
    "Qwen2ForCausalLM, tied": lambda: Qwen2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        **SMALL,
    ),
}
DEFAULTS: dict[str, Any] = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05, "bias": "none"}
ON_DECODERS: dict[str, dict[str, Any]] = {
    "the default": {},
    "DoRA": {"use_dora": True},
    "rsLoRA on every layer": {"target_modules": "all-linear", "use_rslora": True},
}
HEADS = ["GPTNeoXForCausalLM", "GPTJForCausalLM", "LlamaForCausalLM"]  # with a head of their own


def saved_module(folder: Path, module: nn.Module) -> Path:
    """Write a module as a base: its tensors, and an empty config."""
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def saved_adapter(folder: Path, model: Any, config: peft.PeftConfig, seed: int = 3) -> Path:
    """Write a random adapter for a model."""
    adapted = get_peft_model(model, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn_like(parameter)
                parameter.copy_(parameter * (1 + 0.1 * noise) if "magnitude" in name else parameter + 0.05 * noise)
    adapted.save_pretrained(str(folder))
    return folder


def new(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], before: dict[str, Any]) -> None:
    assert set(found) <= set(expected)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in found.items() if name in before)
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("case", CUSTOM)
def test_a_custom_model_merges_as_peft_merges_it(tmp_path: Path, case: str) -> None:
    make, settings = CUSTOM[case]
    base = saved_module(tmp_path / "base", new(make))
    if velora := settings.get("velora_config"):
        settings = {**settings, "velora_config": peft.tuners.lora.config.VeloraConfig(**velora)}
    config = LoraConfig(**{"init_lora_weights": False, **settings})
    adapter = saved_adapter(tmp_path / "adapter", new(make), config)
    merge_adapter(base, adapter, tmp_path / "out")
    expected = PeftModel.from_pretrained(new(make), adapter).merge_and_unload().state_dict()
    assert_same(tensors_of(tmp_path / "out"), expected, tensors_of(base))


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_convolutions_are_refused_by_name(tmp_path: Path, name: str, dora: bool) -> None:
    """Conv1d, Conv2d and Conv3d 1 and 2 LoRA, with DoRA and without: language models have none."""

    def make() -> nn.Module:
        return Named(conv=CONVOLUTIONS[name], lin0=nn.Linear(10, 2))

    base = saved_module(tmp_path / "base", make())
    config = LoraConfig(target_modules=["conv", "lin0"], use_dora=dora, init_lora_weights=False)
    with pytest.raises(StudioError, match="conv is a convolution") as caught:
        merge_adapter(base, saved_adapter(tmp_path / "adapter", make(), config), tmp_path / "out")
    assert caught.value.kind == "model_refused"
    assert not (tmp_path / "out").exists()


def test_a_fused_attention_of_torch_is_refused_by_name(tmp_path: Path) -> None:
    """MHA 1 and 2 LoRA: its weights are parameters, not modules."""

    def make() -> nn.Module:
        return Named(mha=nn.MultiheadAttention(10, 2), lin0=nn.Linear(10, 2))

    base = saved_module(tmp_path / "base", make())
    config = LoraConfig(target_modules=["mha"], init_lora_weights=False)
    with pytest.raises(StudioError, match="mha") as caught:
        merge_adapter(base, saved_adapter(tmp_path / "adapter", make(), config), tmp_path / "out")
    assert caught.value.kind == "model_refused"


OTHER_KINDS: dict[str, peft.PeftConfig] = {
    "IA3": peft.IA3Config(target_modules=["lin0"], feedforward_modules=["lin0"]),
    "LOHA": peft.LoHaConfig(target_modules=["lin0"]),
    "LOKR": peft.LoKrConfig(target_modules=["lin0"]),
    "OFT": peft.OFTConfig(target_modules=["lin0"], r=2, oft_block_size=0),
    "BOFT": peft.BOFTConfig(target_modules=["lin1"], boft_block_size=2),
    "ADALORA": peft.AdaLoraConfig(target_modules=["lin0"], total_step=10),
    "VERA": peft.VeraConfig(target_modules=["lin0"], r=4),
    "FOURIERFT": peft.FourierFTConfig(target_modules=["lin0"], n_frequency=10),
    "HRA": peft.HRAConfig(target_modules=["lin0"]),
    "VBLORA": peft.VBLoRAConfig(target_modules=["lin0"], vector_length=2, num_vectors=4),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["norm"]),
    "TRAINABLE_TOKENS": peft.TrainableTokensConfig(target_modules=["emb"], token_indices=[0, 1]),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_of_adapters_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    def make() -> nn.Module:
        return Named(lin0=nn.Linear(10, 20), lin1=nn.Linear(20, 2), norm=nn.LayerNorm(10), emb=nn.Embedding(9, 10))

    base = saved_module(tmp_path / "base", make())
    adapter = saved_adapter(tmp_path / "adapter", make(), OTHER_KINDS[kind])
    with pytest.raises(StudioError, match=f"kind {kind}") as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "model_refused"


@pytest.mark.parametrize("second", [["lin0"], ["lin1"]], ids=["LoRA Same", "LoRA Different"])
def test_several_adapters_are_merged_one_after_another_as_peft_merges_them_at_once(
    tmp_path: Path, second: list[str]
) -> None:
    base = saved_module(tmp_path / "base", new(mlp))
    adapters = [
        saved_adapter(tmp_path / f"adapter-{seed}", new(mlp), LoraConfig(target_modules=names, r=4), seed=seed)
        for seed, names in enumerate((["lin0"], second))
    ]
    merge_adapter(base, adapters[0], tmp_path / "first")
    merge_adapter(tmp_path / "first", adapters[1], tmp_path / "both")
    model = PeftModel.from_pretrained(new(mlp), adapters[0], adapter_name="a")
    model.load_adapter(adapters[1], adapter_name="b")
    expected = model.merge_and_unload(adapter_names=["a", "b"]).state_dict()
    assert_same(tensors_of(tmp_path / "both"), expected, tensors_of(base))


def saved_decoder(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(DECODERS[name]()).to(dtype).save_pretrained(folder)
    return folder


def decoder(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()


@pytest.mark.parametrize("case", ON_DECODERS)
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_merges_as_peft_merges_it_and_computes_the_same(tmp_path: Path, name: str, case: str) -> None:
    base = saved_decoder(tmp_path / "base", name)
    settings = {**DEFAULTS, "init_lora_weights": False, **ON_DECODERS[case]}
    adapter = saved_adapter(tmp_path / "adapter", decoder(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    merge_adapter(base, adapter, tmp_path / "out")
    model = PeftModel.from_pretrained(decoder(base), adapter).eval()
    ids = torch.tensor([[1, 1, 1], [1, 2, 1]])
    with torch.no_grad():
        wanted, found = model(input_ids=ids).logits, decoder(tmp_path / "out")(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    merged, before = decoder(tmp_path / "out").state_dict(), decoder(base).state_dict()
    assert_same(merged, model.merge_and_unload().state_dict(), before)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_its_own_merges_as_peft_merges_it(tmp_path: Path, name: str) -> None:
    base = saved_decoder(tmp_path / "base", name)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"], init_lora_weights=False)
    adapter = saved_adapter(tmp_path / "adapter", decoder(base), config)
    merge_adapter(base, adapter, tmp_path / "out")
    expected = PeftModel.from_pretrained(decoder(base), adapter).merge_and_unload().state_dict()
    assert_same(decoder(tmp_path / "out").state_dict(), expected, decoder(base).state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_16_bit_decoder_merges_as_peft_merges_it(tmp_path: Path, dtype: torch.dtype) -> None:
    base = saved_decoder(tmp_path / "base", "LlamaForCausalLM", dtype)
    adapter = saved_adapter(tmp_path / "adapter", decoder(base), LoraConfig(task_type="CAUSAL_LM", **DEFAULTS))
    merge_adapter(base, adapter, tmp_path / "out")
    expected = PeftModel.from_pretrained(decoder(base), adapter).merge_and_unload().state_dict()
    assert_same(tensors_of(tmp_path / "out"), expected, tensors_of(base))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_adapter_with_numbers_that_are_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    base = saved_module(tmp_path / "base", new(mlp))
    adapter = saved_adapter(tmp_path / "adapter", new(mlp), LoraConfig(target_modules=["lin0"]))
    weights = load_file(adapter / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = bad
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(StudioError, match="not finite"):
        merge_adapter(base, adapter, tmp_path / "out")


def test_trained_tokens_beside_every_linear_layer_merge_as_peft_merges_them(tmp_path: Path) -> None:
    base = saved_decoder(tmp_path / "base", "LlamaForCausalLM")
    config = LoraConfig(target_modules="all-linear", trainable_token_indices={"embed_tokens": [0, 1, 3]})
    adapter = saved_adapter(tmp_path / "adapter", decoder(base), config)
    merge_adapter(base, adapter, tmp_path / "out")
    expected = PeftModel.from_pretrained(decoder(base), adapter).merge_and_unload().state_dict()
    assert_same(tensors_of(tmp_path / "out"), expected, tensors_of(base))


def test_parameters_of_experts_as_targets_merge_as_peft_merges_them(tmp_path: Path) -> None:
    """tests/test_target_parameters.py: gpt-oss, `mlp.experts.down_proj`."""
    torch.manual_seed(0)
    config = GptOssConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        **SMALL,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    lora = LoraConfig(target_modules=[], target_parameters=["mlp.experts.down_proj"], init_lora_weights=False)
    base = tmp_path / "base"
    adapter = saved_adapter(tmp_path / "adapter", decoder(base), lora)
    merge_adapter(base, adapter, tmp_path / "out")
    expected = PeftModel.from_pretrained(decoder(base), adapter).merge_and_unload().state_dict()
    assert_same(tensors_of(tmp_path / "out"), expected, tensors_of(base))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alora_invocation_tokens", [1, 2]),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("arrow_config", {"top_k": 1}),
        ("kasa_config", {"beta": 1.0}),
        ("monteclora_config", {"x": 1}),
        ("megatron_config", {"tensor_model_parallel_size": 1}),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "lora_ga"),
    ],
)
def test_variants_that_are_no_plain_update_are_refused_by_name(tmp_path: Path, key: str, value: Any) -> None:
    base = saved_module(tmp_path / "base", new(mlp))
    adapter = saved_adapter(tmp_path / "adapter", new(mlp), LoraConfig(target_modules=["lin0"]))
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(StudioError, match=value if isinstance(value, str) else key) as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "model_refused"
