"""Models verified layer by layer: it comes out what whole models give, bit for bit, and goes on where it was."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.run.job import VerifyJob
from qlora_studio.core.run.reports import VerificationPlanned, VerificationReport, VerificationReported
from qlora_studio.engine.context import QUIET, JobContext, JobStopped
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.loading import load_with_adapter
from qlora_studio.engine.verification import job as verify_job
from qlora_studio.engine.verification.passes import Passes, as_trained, unmerged
from qlora_studio.engine.verification.states import StatesStore
from qlora_studio.engine.verification.subject import subject_of
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import make_adapter, make_base
from tests.engine.finished_run import make_run
from tests.engine.mixtures import make_mixture
from tests.engine.tiny_families import save_tiny
from tests.engine.verification.both_ways import Told, batches, both_ways, plain, some_rows
from tests.manifests import relist

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_DENSE = ["llama", "llama_tied", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi3", "gpt2", "gemma3_wrapper"]
_OTHERS = ["gemma4_wrapper", "mixtral", "qwen3_moe", "granitemoehybrid", "lfm2"]


def make(family: str, folder: Path) -> Path:
    if family in ("mixtral", "qwen3_moe"):
        return make_mixture(folder, family)
    if family in ("granitemoehybrid", "lfm2"):
        save_tiny(family, folder)
        return folder
    return make_base(folder, family)


@pytest.mark.parametrize("family", [*_DENSE, *_OTHERS])
def test_a_streamed_model_computes_what_the_whole_one_does_bit_for_bit(family: str, tmp_path: Path) -> None:
    whole, streamed = both_ways(plain(make(family, tmp_path / "base")))
    assert whole == streamed
    assert all(nats > 0 for nats, _ in whole.losses["True"])


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_wrapper"])
def test_an_adapter_comes_with_its_layers_and_can_be_off(family: str, dora: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base, use_dora=dora)
    whole, streamed = both_ways(unmerged(base, adapter, dtype=torch.float32, device="cpu"), (True, False))
    assert whole == streamed
    assert whole.pairs["True", "False"].divergence > 1e-4


@pytest.mark.parametrize(
    ("more", "has_plain_head"),
    [
        ({"modules_to_save": ["embed_tokens"]}, True),
        ({"modules_to_save": ["lm_head"]}, False),
        ({"target_modules": ["q_proj", "lm_head", "embed_tokens"]}, False),
        ({"lora_bias": True}, True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_adapter_may_change_more_than_layers(more: dict[str, Any], has_plain_head: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", vocab_size=5000)
    adapter = make_adapter(tmp_path / "adapter", base, **more)
    item = unmerged(base, adapter, dtype=torch.float32, device="cpu")
    whole, streamed = both_ways(item, (True, False), has_plain_head=has_plain_head)
    assert whole == streamed
    assert whole.pairs["True", "False"].divergence > 1e-5


@pytest.mark.parametrize(
    ("family", "method", "dora"), [("llama", "nf4", False), ("llama", "nf4", True), ("gemma2", "none", False)]
)
def test_layers_are_quantized_as_training_does(family: str, method: str, dora: bool, tmp_path: Path) -> None:
    run = make_run(tmp_path, family, method=method, use_dora=dora)
    exported = Path(export_run(run, formats=["adapter"], channel=QUIET)[0].path)
    whole, streamed = both_ways(as_trained(subject_of(exported, run, QUIET), QUIET))
    assert whole == streamed


def test_losses_and_divergences_are_those_of_whole_distributions(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gemma2", initializer_range=0.3)
    adapter = make_adapter(tmp_path / "adapter", base)
    model = load_with_adapter(base, adapter, dtype=torch.float32, device="cpu")
    _, found = both_ways(unmerged(base, adapter, dtype=torch.float32, device="cpu"), (True, False))
    gaps, losses, same = [], [], []
    for ids, labels in [(tuple(range(3, 19)), (-100,) * 16), *some_rows().rows]:
        with torch.no_grad():
            on = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            with model.disable_adapter():
                off = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        gaps.append((on.exp() * (on - off)).sum(-1))
        losses += [-float(on[place, label]) for place, label in enumerate(labels[1:]) if label != -100]
        same += [bool(on[p].argmax() == off[p].argmax()) for p, label in enumerate(labels[1:]) if label != -100]
    pair = found.pairs["True", "False"]
    assert sum(nats for nats, _ in found.losses["True"]) == pytest.approx(sum(losses), rel=1e-6)
    assert sum(count for _, count in found.losses["True"]) == len(losses) == pair.tokens
    assert pair.divergence == pytest.approx(float(torch.cat(gaps).mean()), rel=1e-5)
    assert pair.agreement == pytest.approx(sum(same) / len(same))


def test_an_interrupted_model_goes_on_at_its_layer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen3", num_hidden_layers=4)
    uninterrupted = Passes(batches(), Told(), StatesStore({"run": 1})).run(plain(base)).outcomes[True]
    with pytest.raises(JobStopped):
        Passes(batches(), Told(layers=2), StatesStore({"run": 2}, every=0)).run(plain(base))
    told = Told()
    found = Passes(batches(), told, StatesStore({"run": 2}, every=0)).run(plain(base)).outcomes[True]
    assert told.layers == [3, 4]
    assert all(map(torch.equal, found.states, uninterrupted.states))


def test_a_model_that_is_through_is_not_read_again_and_damaged_states_are(tmp_path: Path) -> None:
    base, told = make_base(tmp_path / "base", "llama"), Told()
    first = Passes(batches(), told, StatesStore({"run": 3})).run(plain(base)).outcomes[True]
    expected = [states.clone() for states in first.states]
    Passes(batches(), told, StatesStore({"run": 3})).run(plain(base))
    assert told.layers == [1, 2]
    (kept,) = (tmp_path / "home" / "cache" / "verification").rglob("states.safetensors")
    data = bytearray(kept.read_bytes())
    data[-5] ^= 1
    kept.unlink()
    kept.write_bytes(data)
    found = Passes(batches(), told, StatesStore({"run": 3})).run(plain(base)).outcomes[True]
    assert told.layers == [1, 2, 1, 2]
    assert all(map(torch.equal, found.states, expected))


def test_a_layer_is_gone_when_the_next_one_comes(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", num_hidden_layers=6)
    item = unmerged(base, make_adapter(tmp_path / "adapter", base), dtype=torch.float32, device="cpu")
    held: list[int] = []

    class Counting(Told):
        def progress(self, what: str, done: int, total: int, unit: str = "") -> None:
            weights = [thing for thing in gc.get_objects() if isinstance(thing, torch.nn.Parameter)]
            held.append(sum(thing.numel() for thing in weights if not thing.is_meta))

    gc.collect()
    gc.disable()
    try:
        Passes(batches(), Counting(), StatesStore({"run": 5})).run(item)
    finally:
        gc.enable()
    assert len(held) == 6 and held[5] <= held[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def verified(tmp_path: Path, run: RunFolder) -> Callable[..., VerificationReport]:
    def verify(export: Path, **more: Any) -> VerificationReport:
        folder = tmp_path / f"job-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        context = JobContext(RunFolder(folder))
        verify_job.run(VerifyJob(path=str(export), run_dir=str(run.path), **more), context)
        told = list(context.folder.events())
        (plan,) = [event.report for event in told if isinstance(event, VerificationPlanned)]
        (report,) = [event.report for event in told if isinstance(event, VerificationReported)]
        assert plan.way == report.way and plan.tokens > 0
        return report

    return verify


@pytest.mark.parametrize("shape", ["safetensors", pytest.param("adapter", marks=pytest.mark.slow), "gguf:q8_0"])
def test_a_streamed_verification_says_what_the_whole_one_says(
    run: RunFolder, verified: Callable[..., VerificationReport], shape: str
) -> None:
    export = Path(export_run(run, formats=[shape], channel=QUIET)[0].path)
    whole, streamed = (verified(export, way=way, bases=True) for way in ("whole", "streamed"))
    assert (whole.way, streamed.way) == ("whole", "streamed")
    assert whole.verified and streamed.verified
    assert (whole.losses, whole.divergence, whole.divergence_as_trained, whole.bases) == (
        streamed.losses,
        streamed.divergence,
        streamed.divergence_as_trained,
        streamed.bases,
    )
    alone, both = ({check.name: check for check in report.checks} for report in (whole, streamed))
    assert alone.keys() - both.keys() <= {"llama.cpp"}  # where one is installed: it is held to a model that is whole
    assert {name for name, check in both.items() if check != alone[name]} <= {"answers"}
    if shape == "gguf:q8_0":  # its weights are unpacked: whole, they would take the memory that streaming saves
        assert not streamed.answers and "layer by layer" in both["answers"].message
    else:
        assert [answer.prompt for answer in whole.answers] == [answer.prompt for answer in streamed.answers]


def test_a_merge_without_what_was_learned_is_noticed_layer_by_layer(
    run: RunFolder, verified: Callable[..., VerificationReport]
) -> None:
    export = Path(export_run(run, formats=["safetensors"], channel=QUIET)[0].path)
    base = Path(run.config().model.source)
    (export / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    relist(export)
    report = verified(export, way="streamed")
    assert "adapter" in {check.name for check in report.checks if not check.passed}
