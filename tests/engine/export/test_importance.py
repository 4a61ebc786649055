"""What matters in the weights, measured on the run's own rows, and what a quantizer makes of it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from transformers import AutoConfig, AutoModelForCausalLM

from qlora_studio.core.export.formats import parse_format
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.export.importance import Importance, mean_squares
from qlora_studio.engine.gguf.layout import GgufLayout
from qlora_studio.engine.gguf.writer import quantized, write_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.storage.runs.export_folder import read_export
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import WRAPPERS, live, load, make_adapter, make_base, make_tokenizer
from tests.engine.training_run import make_run, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ROWS = [[5, 7, 11, 13, 17], [19, 23, 29]]


@pytest.fixture(scope="module")
def run(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run that is over, and never changed by a test but for its exports."""
    run = make_run(tmp_path_factory.mktemp("runs"), tiny_llama, "training.max_steps=2")
    state = run_to_end(run)
    assert state.failure is None, state.failure
    return run


def test_what_flows_into_the_first_layer_is_measured_as_it_is_by_hand(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    model = load(base).eval()
    found = mean_squares(model, ROWS, QUIET)
    ids = torch.tensor([token for row in ROWS for token in row])
    with torch.no_grad():
        entering = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))
    expected = entering.double().square().mean(dim=0)
    name = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    assert found["model.layers.1.mlp.down_proj.weight"].shape == (96,)
    assert "lm_head.weight" not in found
    assert {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)} == {
        *(key.removesuffix(".weight") for key in found),
        "lm_head",
    }


def test_names_are_those_of_the_base_with_an_adapter_on_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, lora_alpha=64)
    plain, adapted = (mean_squares(model, ROWS, QUIET) for model in (load(base).eval(), live(base, adapter)))
    assert plain.keys() == adapted.keys()
    first, last = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
    np.testing.assert_allclose(adapted[first], plain[first], rtol=1e-5)  # nothing adapted stands before it
    assert not np.allclose(adapted[last], plain[last], rtol=1e-2)


def test_layers_that_are_stored_transposed_have_their_inputs_measured(tmp_path: Path) -> None:
    model = load(make_base(tmp_path / "base", "gpt2")).eval()
    found = mean_squares(model, ROWS, QUIET)
    assert found["transformer.h.0.mlp.c_fc.weight"].shape == (64,)


@pytest.mark.parametrize("family", WRAPPERS)
def test_a_model_that_also_sees_is_measured_in_its_text_part_under_the_names_of_its_files(
    tmp_path: Path, family: str
) -> None:
    base = make_base(tmp_path / "base", family)
    weights = MergedWeights(base, None)
    found = Importance(values=mean_squares(load(base).eval(), ROWS, QUIET)).stored(weights)
    assert all(weights.tensors[name].shape[-1] == len(value) for name, value in found.items())
    assert any("down_proj" in name for name in found)
    assert not any("vision" in name or "visual" in name for name in found)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_5_text", "phi3"])
def test_what_matters_stays_with_its_column_wherever_a_gguf_puts_that(tmp_path: Path, family: str) -> None:
    """Σ importance · weight² of a layer does not depend on the order of its rows and columns, if both go together."""
    base = tmp_path / "base"
    if family == "qwen3_5_text":  # alone: its linear attention is laid out otherwise, inputs too
        AutoModelForCausalLM.from_config(WRAPPERS["qwen3_5_wrapper"]().get_text_config()).save_pretrained(base)
    else:
        make_base(base, family, dtype=torch.float32)
    weights = MergedWeights(base, None, dtype=torch.float32)
    known = Importance(values=mean_squares(load(base).eval(), ROWS, QUIET)).stored(weights)
    config = AutoConfig.from_pretrained(base).get_text_config().to_dict()
    layout = GgufLayout(config, int(config.get("num_hidden_layers") or config["n_layer"]))
    sums: dict[str, float] = {}
    for tensor in layout.tensors(weights, is_tied=weights.is_tied).values():
        source = tensor.sources[0].name
        if source in known and len(tensor.shape) == 2:
            columns = layout.by_columns(tensor, torch.from_numpy(known[source]))
            assert columns is not None, source
            matrix = torch.cat(list(layout.blocks(weights, tensor))).double()
            sums[source] = sums.get(source, 0.0) + float((matrix.square() * columns).sum())
    assert sums.keys() == known.keys()
    for source, value in known.items():
        inputs = torch.from_numpy(value[:, None] if family == "gpt2" else value)  # GPT-2 stores (inputs, outputs)
        expected = float((weights.tensor(source).double().square() * inputs).sum())
        assert sums[source] == pytest.approx(expected, rel=1e-5), source


@pytest.mark.parametrize(("wish", "weighed"), [("auto", {"q4_K_M", "q4_K_S", "q3_K_M"}), ("off", set())])
def test_few_bits_are_shared_out_by_what_matters(wish: str, weighed: set[str]) -> None:
    names = ("q8_0", "q6_K", "q5_K_M", "q5_K_S", "q4_K_M", "q4_K_S", "q3_K_M", "bf16")
    assert {name for name in names if parse_format(f"gguf:{name}").takes_importance(wish)} == weighed
    assert parse_format("gguf:q6_K").takes_importance("on") and not parse_format("gguf:q8_0").takes_importance("on")
    assert not parse_format("safetensors").takes_importance("on")


@pytest.mark.parametrize("kind", ["Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q5_1", "Q4_0"])
def test_what_matters_is_rounded_more_finely(kind: str) -> None:
    rows = np.random.default_rng(3).standard_t(4, size=(32, 512)).astype(np.float32)
    importance = np.where(np.arange(512) % 8 == 0, 100, 0.01).astype(np.float32)
    importance[256:288] = 0  # of inputs that never flow
    errors = []
    with ThreadPoolExecutor(1) as pool:
        for weight in (None, importance):
            number = gguf.GGMLQuantizationType[kind]
            data = np.frombuffer(quantized(rows, number, pool, weight), dtype=np.uint8).reshape(32, -1)
            read = dequantize(data, number)
            assert np.isfinite(read).all()
            errors.append(float(((read - rows) ** 2 * importance).sum()))
    assert errors[1] < errors[0] * 0.9


def test_a_gguf_takes_what_matters_where_it_fits(tmp_path: Path) -> None:
    base = make_tokenizer(make_base(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512))
    weights = MergedWeights(base, None, dtype=torch.float32)
    name = "model.layers.0.mlp.up_proj.weight"
    importance = {name: np.linspace(0, 1, 256, dtype=np.float32), "model.layers.0.mlp.down_proj.weight": np.ones(3)}
    files = []
    for folder, known in (("with", importance), ("without", {})):
        (tmp_path / folder).mkdir()
        facts = write_gguf(
            weights, base, tmp_path / folder, name="x", precision="q4_K_M", channel=QUIET, importance=known
        )
        assert facts["importance_tensors"] == len(known) // 2
        tensors = gguf.GGUFReader(tmp_path / folder / facts["file"]).tensors
        files.append({tensor.name: tensor.data.tobytes() for tensor in tensors})
    differing = {key for key in files[0] if files[0][key] != files[1][key]}
    assert differing == {"blk.0.ffn_up.weight"}


def test_an_export_says_on_which_rows_it_was_measured(run: RunFolder, tmp_path: Path) -> None:
    [exported] = export_run(run, formats=["gguf:q4_K_M"], out_dir=str(tmp_path / "out"), channel=QUIET)
    facts = exported.facts
    assert facts.importance_rows == "held-out"
    assert facts.importance_tensors == 14 and facts.importance_tokens > 100
    manifest = read_export(Path(exported.path))
    assert (manifest.importance_rows, manifest.importance_tokens) == ("held-out", facts.importance_tokens)
    card = (Path(exported.path) / "README.md").read_text()
    assert f"{facts.importance_tokens:,} tokens of the held-out rows" in card


def test_an_export_without_it_says_nothing(run: RunFolder, tmp_path: Path) -> None:
    [exported] = export_run(
        run, formats=["gguf:q4_K_M"], importance_matrix="off", out_dir=str(tmp_path / "out"), channel=QUIET
    )
    assert exported.facts.importance_rows == "" and exported.facts.importance_tensors == 0


def test_without_held_out_rows_it_is_measured_on_the_training_rows(tmp_path: Path, run: RunFolder) -> None:
    run.write_config(run.config().with_value("data.evaluation_share", 0.0))
    [exported] = export_run(run, formats=["gguf:q4_K_M"], out_dir=str(tmp_path / "out"), channel=QUIET)
    assert exported.facts.importance_rows == "training"


def test_where_the_rows_are_gone_it_is_done_without_and_said(tmp_path: Path, run: RunFolder) -> None:
    told: list[str] = []

    class Listening(type(QUIET)):  # type: ignore[misc]
        def warn(self, kind: str, message: str) -> None:
            told.append(message)

    run.write_config(run.config().with_value("data.path", str(tmp_path / "gone.jsonl")))
    [exported] = export_run(run, formats=["gguf:q4_K_M"], out_dir=str(tmp_path / "out"), channel=Listening())
    assert exported.facts.importance_rows == ""
    assert any("Which weights matter most cannot be measured" in text for text in told)
