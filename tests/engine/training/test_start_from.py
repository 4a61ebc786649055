"""Runs that go on from an adapter that is there: the loss begins where the parent's ended, and they name it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import StudioError
from qlora_studio.core.quantity import loss_text
from qlora_studio.core.run.events import AdapterContinued, Evaluated
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.rehearsal import require_mergeable
from qlora_studio.engine.training.parent import continued, parent_adapter, taken_over
from qlora_studio.storage.runs.export_folder import verification_of
from qlora_studio.storage.runs.fingerprint import fingerprint_folder
from qlora_studio.storage.runs.parent_adapter import run_around, with_parent
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.run.view import subtitle
from tests.engine.families import live, load, logits, make_adapter, make_base
from tests.engine.training_run import final_weights, make_run, run_to_end, tensors

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PARENT = ("lora.rank=4", "lora.alpha=6", "lora.rslora=true", "lora.target_modules=q_proj,v_proj", "name=first stage")


@pytest.fixture(scope="module")
def parent(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run that is over, and never changed by a test."""
    run = make_run(tmp_path_factory.mktemp("parents"), tiny_llama, *PARENT)
    state = run_to_end(run)
    assert state.failure is None, state.failure
    return run


@pytest.fixture(scope="module")
def child(tiny_llama: Path, parent: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run that went on from the parent and is over."""
    folder = tmp_path_factory.mktemp("children")
    run = make_run(folder, tiny_llama, f"lora.start_from={parent.path}", "training.max_steps=4")
    state = run_to_end(run)
    assert state.failure is None, state.failure
    return run


def test_the_loss_begins_where_the_parent_s_ended(parent: RunFolder, child: RunFolder) -> None:
    ended, began = parent.state().best_evaluation, child.state().first_evaluation
    assert isinstance(ended, Evaluated) and isinstance(began, Evaluated)
    assert began.loss == pytest.approx(ended.loss, abs=1e-6)
    assert final_weights(child).keys() == final_weights(parent).keys()
    assert final_weights(child) != final_weights(parent)


@pytest.mark.parametrize(
    "kind", ["folder", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("adapter", "safetensors"))]
)
def test_the_loss_begins_there_from_a_folder_and_from_an_export_too(
    kind: str, parent: RunFolder, tiny_llama: Path, tmp_path: Path
) -> None:
    start = str(parent.adapter_path)
    if kind != "folder":
        start = export_run(parent, formats=[kind], checkpoint="final", channel=QUIET)[0].path
    run = make_run(tmp_path, tiny_llama, f"lora.start_from={start}", "training.max_steps=1")
    state, ended = run_to_end(run), parent.state().evaluation
    assert state.failure is None, state.failure
    assert state.first_evaluation is not None and ended is not None
    assert loss_text(state.first_evaluation.loss) == loss_text(ended.loss)
    assert state.first_evaluation.loss == pytest.approx(ended.loss, abs=1e-6)


def test_the_parent_s_settings_are_taken_over_and_told(child: RunFolder) -> None:
    state = child.state()
    assert state.parent is not None
    assert "LoRA rank: 16 → 4" in state.parent.taken_over
    assert any("LoRA rank: 16 → 4" in warning.message for warning in state.warnings)
    kept = json.loads((child.adapter_path / "adapter_config.json").read_text())
    assert (kept["r"], kept["lora_alpha"], kept["use_rslora"]) == (4, 6, True)
    assert sorted(kept["target_modules"]) == ["q_proj", "v_proj"]
    lora = child.config().lora
    assert (lora.rank, lora.alpha, lora.rslora, lora.target_modules) == (4, 6, True, "q_proj,v_proj")


def test_a_run_and_what_is_exported_of_it_name_the_parent(parent: RunFolder, child: RunFolder) -> None:
    told = child.state().parent
    assert told is not None and told.run == parent.path.name and told.stages == ["first stage"]
    [exported] = export_run(child, formats=["adapter"], channel=QUIET)
    card = (Path(exported.path) / "README.md").read_text()
    assert parent.path.name in card and told.sha256 in card
    assert str(parent.path.parent) not in "".join(path.read_text() for path in Path(exported.path).rglob("*.toml"))


def test_a_third_stage_names_both_before_it(tmp_path: Path, tiny_llama: Path, child: RunFolder) -> None:
    run = make_run(tmp_path, tiny_llama, f"lora.start_from={child.path}")
    taken_over(JobContext(run))
    told = run.state().parent
    assert told is not None and told.words == "first stage → my-run"
    assert "goes on from first stage → my-run" in subtitle(run.config(), run.state())
    around = run_around(Path(run.config().lora.start_from))
    assert around is not None and around.path == child.path.resolve()


def test_a_resumed_one_goes_on_from_its_own_checkpoint(tmp_path: Path, child: RunFolder) -> None:
    run = RunFolder(shutil.copytree(child.path, tmp_path / "run"))
    run.write_config(run.config().with_value("lora.start_from", str(tmp_path / "gone")))
    shutil.rmtree(run.adapter_path)
    shutil.rmtree(run.checkpoints_path / "checkpoint-4")
    state = run_to_end(run)
    assert state.failure is None, state.failure
    assert state.resumptions == (2,)
    assert final_weights(run) == final_weights(child)
    assert sum(isinstance(event, AdapterContinued) for event in run.events()) == 1


def test_an_export_of_the_parent_is_gone_on_from_too(tiny_llama: Path, parent: RunFolder) -> None:
    for kind in ("adapter", "safetensors"):
        [exported] = export_run(parent, formats=[kind], channel=QUIET)
        config = RunConfig().with_value("lora.start_from", exported.path)
        folder = parent_adapter(config, fingerprint_folder(tiny_llama))
        assert folder is not None
        assert tensors(folder / "adapter_model.safetensors") == final_weights(parent)
        with pytest.raises(StudioError, match="another base model"):
            parent_adapter(config, Fingerprint(files={"config.json": "other"}))


def test_another_base_is_refused_by_its_fingerprint(tmp_path: Path, tiny_llama: Path, parent: RunFolder) -> None:
    other = Path(shutil.copytree(tiny_llama, tmp_path / "other"))
    model = load(other)
    model.model.norm.weight.data += 1
    model.save_pretrained(other)
    config = RunConfig().with_value("lora.start_from", str(parent.path))
    with pytest.raises(StudioError, match="another base model") as caught:
        parent_adapter(config, fingerprint_folder(other))
    assert caught.value.kind == "fingerprint_mismatch"


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {"num_hidden_layers": 1}),
        ("llama", {"num_hidden_layers": 3}),
        ("llama", {"hidden_size": 32}),
        ("gpt2", {}),
    ],
    ids=["fewer layers", "more layers", "other shapes", "other names"],
)
def test_without_a_fingerprint_names_and_shapes_tell_another_base(
    tmp_path: Path, family: str, more: dict[str, Any]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", make_base(tmp_path / "base", "llama"))
    other = make_base(tmp_path / "other", family, **more)
    with pytest.raises(StudioError, match="not made for this") as caught:
        continued(load(other), adapter, RunConfig())
    assert caught.value.kind == "fingerprint_mismatch"


MORE: dict[str, dict[str, Any]] = {
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": {"embed_tokens": [5, 7, 11]}},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
}


@pytest.mark.parametrize("kind", MORE)
def test_what_an_adapter_holds_beside_its_updates_is_trained_further(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", "llama", attention_bias="bias" in kind)
    adapter = make_adapter(tmp_path / "adapter", base, **{"target_modules": ["q_proj", "v_proj"], **MORE[kind]})
    model = continued(load(base), adapter, RunConfig())
    assert torch.equal(logits(model.eval()), logits(live(base, adapter)))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(".lora_A." in name for name in trained)
    assert any(not name.endswith((".lora_A.default.weight", ".lora_B.default.weight")) for name in trained)
    model(input_ids=torch.tensor([[5, 7, 11, 13]]), labels=torch.tensor([[5, 7, 11, 13]])).loss.backward()
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("family", "lora", "why"),
    [
        ("llama", {"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ("llama_tied", {"trainable_token_indices": {"embed_tokens": [5, 7]}}, "single tokens"),
    ],
    ids=["an update of the head", "tokens of a tied head"],
)
def test_what_cannot_be_trained_further_is_refused_by_name(
    tmp_path: Path, family: str, lora: dict[str, Any], why: str
) -> None:
    base = make_base(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base, **{"target_modules": ["q_proj"], **lora})
    with pytest.raises(StudioError, match=why) as caught:
        continued(load(base), adapter, RunConfig())
    assert caught.value.kind == "model_refused" and "Merge it" in caught.value.advice


def test_a_whole_module_is_refused_where_it_is_in_4_bit(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], modules_to_save=["down_proj"])
    config = RunConfig()
    with pytest.raises(StudioError, match="in 4 bit here") as caught:
        continued(load_base(base, config, choose_device(config, QUIET)), adapter, config)
    assert "down_proj" in caught.value.message


def test_a_vocabulary_of_its_own_is_refused_by_its_size(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    grown = load(base)
    grown.resize_token_embeddings(330, mean_resizing=False)
    grown.save_pretrained(tmp_path / "grown")
    lora: dict[str, Any] = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    adapter = make_adapter(tmp_path / "adapter", tmp_path / "grown", **lora)
    with pytest.raises(StudioError, match="330 tokens"):
        continued(load(base), adapter, RunConfig())


def test_an_adapter_that_cannot_be_merged_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], lora_bias=True)
    with pytest.raises(StudioError, match="no bias"):
        require_mergeable(base, RunConfig(), QUIET, adapter)


def test_a_rank_beyond_what_the_form_used_to_take_is_read(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], r=1100, lora_alpha=5000)
    lora = with_parent(from_mapping({"lora": {"start_from": str(adapter)}})).lora
    assert (lora.rank, lora.alpha) == (1100, 5000)
    assert torch.equal(logits(continued(load(base), adapter, RunConfig()).eval()), logits(live(base, adapter)))


@pytest.mark.slow
def test_a_head_that_was_retrained_goes_through_training_resume_merge_and_proof(
    tmp_path: Path, tiny_llama: Path
) -> None:
    adapter = make_adapter(
        tmp_path / "adapter", tiny_llama, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]
    )
    settings = (f"lora.start_from={adapter}", "training.max_steps=4", "lora.dropout=0")
    run = make_run(tmp_path / "runs", tiny_llama, *settings, "export.merge=true")
    state = run_to_end(run)
    assert state.failure is None, state.failure
    [exported] = state.exports
    assert verification_of(Path(exported.path)).verified
    head = "base_model.model.lm_head.weight"
    assert final_weights(run)[head] != tensors(adapter / "adapter_model.safetensors")[head]
    again = RunFolder(shutil.copytree(run.path, tmp_path / "again"))
    shutil.rmtree(again.adapter_path)
    shutil.rmtree(again.exports_path)
    shutil.rmtree(again.checkpoints_path / "checkpoint-4")
    again.write_config(again.config().with_value("export.merge", False))
    assert run_to_end(again).failure is None
    assert again.state().resumptions == (2,)
    assert final_weights(again) == final_weights(run)


@pytest.mark.parametrize(
    "lora", [{}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 9}}]
)
def test_an_adapter_made_elsewhere_goes_on_with_its_numbers(tmp_path: Path, lora: dict[str, Any]) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, **lora)
    model = continued(load(base), adapter, RunConfig())
    assert torch.equal(logits(model.eval()), logits(live(base, adapter)))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_the_estimate_takes_rank_and_targets_of_the_parent(parent: RunFolder) -> None:
    for start in (parent.path, parent.adapter_path, next(iter(parent.checkpoints_path.iterdir()))):
        lora = with_parent(from_mapping({"lora": {"start_from": str(start)}})).lora
        assert (lora.rank, lora.alpha, lora.rslora, lora.target_modules) == (4, 6, True, "q_proj,v_proj")
