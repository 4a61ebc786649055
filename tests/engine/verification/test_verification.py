"""Exports of a run, verified: right ones pass every check, and each way of being wrong is noticed."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from qlora_studio.core.errors import NewerVersion, StudioError
from qlora_studio.core.run.events import Event, Exported
from qlora_studio.core.run.job import VerifyJob
from qlora_studio.core.run.reports import BasesReported, VerificationReported
from qlora_studio.engine.context import QUIET, JobContext, JobStopped, QuietReporter
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.gguf.llama_cpp import has_llama_cpp
from qlora_studio.engine.verification import job as verify_job
from qlora_studio.engine.verification.measurement import held_out_rows
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.finished_run import make_run
from tests.manifests import relist

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    (tmp_path / "job").mkdir()
    return JobContext(RunFolder(tmp_path / "job"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(run: RunFolder) -> dict[str, Path]:
    """One export of each shape, made once; tests copy what they spoil."""
    formats = ["safetensors", "gguf:q8_0", "ollama:bf16", "adapter", "gguf_adapter"]
    events = export_run(run, formats=formats, channel=QUIET)
    return {event.format: Path(event.path) for event in events}


def verify(path: Path, run: RunFolder, context: JobContext, **more: Any) -> dict[str, Any]:
    verify_job.run(VerifyJob(path=str(path), run_dir=str(run.path), **more), context)
    reports = [event.report for event in context.folder.events() if isinstance(event, VerificationReported)]
    return reports[-1].model_dump()


def failed(report: dict[str, Any]) -> set[str]:
    return {check["name"] for check in report["checks"] if not check["passed"]}


@pytest.mark.slow
def test_every_format_of_a_run_passes_every_check(
    exported: dict[str, Path], run: RunFolder, context: JobContext
) -> None:
    paths = [str(path) for path in exported.values()]
    verify_job.run(VerifyJob(path=paths[0], more=paths[1:], run_dir=str(run.path), bases=True), context)
    events = list(context.folder.events())
    reports = [event.report.model_dump() for event in events if isinstance(event, VerificationReported)]
    assert [report["format"] for report in reports] == list(exported)
    assert [failed(report) for report in reports] == [set()] * len(reports)
    assert all(report["verified"] for report in reports)
    merged = reports[0]
    assert merged["losses"]["merged"] == pytest.approx(merged["losses"]["adapter on 16 bit"], abs=0.01)
    assert merged["losses"]["merged"] != merged["losses"]["base"]
    (bases,) = [event.report.model_dump() for event in events if isinstance(event, BasesReported)]
    assert [row["base"] for row in bases["bases"]] == ["original", "nf4"]
    assert bases["bases"][1]["divergence"] < bases["bases"][0]["divergence"]
    for path in exported.values():
        assert json.loads((path / "verification.json").read_text())["verified"]
        assert "Every check passed." in (path / "verification.md").read_text()


def test_the_report_tells_how_probable_the_end_is_after_each_held_out_answer_before_and_after(
    exported: dict[str, Path], run: RunFolder, context: JobContext
) -> None:
    ends = verify(exported["safetensors"], run, context)["ends"]
    expected = _end_probabilities(exported["safetensors"], run)
    assert ends["answers"] == len(expected) > 0
    assert ends["export"] == pytest.approx(sum(expected) / len(expected), rel=0.02)
    assert ends["lowest"] == pytest.approx(min(expected), rel=0.02)
    assert ends["before"] != ends["after"] != pytest.approx(0.0)
    assert 0 <= ends["stopped"] <= ends["asked"] == min(4, len(expected))
    assert f"After {len(expected)} held-out answers" in (exported["safetensors"] / "verification.md").read_text()


def _end_probabilities(folder: Path, run: RunFolder) -> list[float]:
    """Of a plain model loaded by transformers, after each held-out row's last trained token but one."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = held_out_rows(run, run.config(), tokenizer, JobContext(run), tokens=10_000).rows
    found = []
    for ids, labels in rows:
        with torch.no_grad():
            likely = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)
        found += [float(likely[at - 1, token]) for at, token in enumerate(labels) if token == tokenizer.eos_token_id]
    return found


def test_an_export_tells_nothing_of_this_computer(exported: dict[str, Path], run: RunFolder) -> None:
    for folder in exported.values():
        for path in folder.rglob("*"):
            if path.suffix in (".md", ".toml", ".json", ".svg") and path.is_file():
                assert str(run.path.parent.parent) not in path.read_text("utf-8"), path


def test_an_export_keeps_adapter_config_and_base_beside_it(exported: dict[str, Path]) -> None:
    for shape, folder in exported.items():
        assert (folder / "training" / "run.toml").is_file()
        assert json.loads((folder / "training" / "base.json").read_text())["source"] == "base-model"
        assert "license: apache-2.0\n" in (folder / "README.md").read_text()
        place = folder if shape == "adapter" else folder / "training" / "adapter"
        assert (place / "adapter_model.safetensors").is_file()


def spoiled(source: Path, target: Path, spoil: Callable[[Path, Path], None], base: Path) -> Path:
    """A copy of an export with something wrong in it, and a manifest that says all is well."""
    shutil.copytree(source, target)
    spoil(target, base)
    relist(target)
    return target


def forget_the_adapter(folder: Path, base: Path) -> None:
    shutil.copyfile(base / "model.safetensors", folder / "model.safetensors")


def change_the_template(folder: Path, base: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>", "<|im_start|> "))


def lose_the_stop_token(folder: Path, base: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 7}))


def split_words_otherwise(folder: Path, base: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = content["model"]["merges"][:5]
    path.write_text(json.dumps(content))


SPOILED: dict[str, Callable[[Path, Path], None]] = {
    "adapter": forget_the_adapter,
    "template": change_the_template,
    "stop token": lose_the_stop_token,
    "tokenizer": split_words_otherwise,
}


def test_what_is_wrong_in_an_export_is_noticed(
    tmp_path: Path, exported: dict[str, Path], run: RunFolder, context: JobContext
) -> None:
    base, source = Path(run.config().model.source), exported["safetensors"]
    bad = [spoiled(source, tmp_path / name.replace(" ", "-"), spoil, base) for name, spoil in SPOILED.items()]
    more = [str(path) for path in bad[1:]]
    verify_job.run(VerifyJob(path=str(bad[0]), more=more, run_dir=str(run.path)), context)
    for name, folder in zip(SPOILED, bad, strict=True):
        report = json.loads((folder / "verification.json").read_text())
        assert name in failed(report)
        assert not report["verified"]


def norm_otherwise(folder: Path, base: Path) -> None:
    """Another epsilon in the file's metadata: weights and tokenizer are as they were."""
    path = next(folder.glob("*.gguf"))
    data = bytearray(path.read_bytes())
    key = b"llama.attention.layer_norm_rms_epsilon"
    place = data.index(key) + len(key) + 4  # after the kind of number
    data[place : place + 4] = struct.pack("<f", 100.0)
    path.write_bytes(data)


@pytest.mark.skipif(not has_llama_cpp(), reason="no llama.cpp to ask: pip install xllamacpp")
def test_a_number_that_is_wrong_in_a_gguf_is_noticed_by_llama_cpp(
    tmp_path: Path, exported: dict[str, Path], run: RunFolder, context: JobContext
) -> None:
    folder = spoiled(exported["gguf:q8_0"], tmp_path / "other", norm_otherwise, tmp_path)
    assert failed(verify(folder, run, context)) == {"llama.cpp"}


def test_a_flipped_bit_is_noticed_and_the_weights_are_not_loaded(
    tmp_path: Path, exported: dict[str, Path], run: RunFolder, context: JobContext
) -> None:
    folder = tmp_path / "flipped"
    shutil.copytree(exported["gguf:q8_0"], folder)
    path = next(folder.glob("*.gguf"))
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    report = verify(folder, run, context)
    assert failed(report) == {"files"}
    assert report["losses"] == {}


def test_without_its_run_an_export_is_not_called_right(
    tmp_path: Path, exported: dict[str, Path], context: JobContext
) -> None:
    folder = tmp_path / "far" / "away"
    shutil.copytree(exported["safetensors"], folder)
    verify_job.run(VerifyJob(path=str(folder)), context)
    report = json.loads((folder / "verification.json").read_text())
    assert failed(report) == {"comparison"}


def test_the_run_is_found_around_an_export(exported: dict[str, Path], context: JobContext) -> None:
    verify_job.run(VerifyJob(path=str(exported["gguf_adapter"])), context)
    assert json.loads((exported["gguf_adapter"] / "verification.json").read_text())["verified"]


def test_a_merge_into_the_round_trip_is_what_was_trained(run: RunFolder, context: JobContext, tmp_path: Path) -> None:
    (event,) = export_run(run, formats=["safetensors"], base="nf4", out_dir=str(tmp_path / "rounded"), channel=QUIET)
    report = verify(Path(event.path), run, context)
    assert failed(report) == set()
    assert report["losses"]["merged"] == pytest.approx(report["losses"]["adapter"], abs=0.01)


def test_another_base_is_refused_unless_forced(tmp_path: Path) -> None:
    run = make_run(tmp_path / "own")
    base = Path(run.config().model.source)
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudioError) as caught:
        export_run(run, formats=["safetensors"], channel=QUIET)
    assert caught.value.kind == "fingerprint_mismatch"
    assert not run.exports_path.exists()
    assert export_run(run, formats=["safetensors"], channel=QUIET, force=True)


def test_a_run_of_a_newer_version_is_not_exported(tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(make_run(tmp_path / "own").path, tmp_path / "newer"))
    with run.events_path.open("a", encoding="utf-8") as events:
        events.write('{"version": 99, "time": 1.0, "type": "finished"}\n')
    with pytest.raises(NewerVersion):
        export_run(run, formats=["adapter"], channel=QUIET)
    assert not run.exports_path.exists()


def test_a_second_export_never_replaces_the_first(run: RunFolder) -> None:
    paths = [export_run(run, formats=["adapter"], channel=QUIET)[0].path for _ in range(2)]
    assert paths[0] != paths[1]
    with pytest.raises(StudioError, match="exists already"):
        export_run(run, formats=["adapter"], out_dir=paths[0], channel=QUIET)


class Stopping(QuietReporter):
    """A user who asks for the end at the fourth look, and what was told."""

    def __init__(self) -> None:
        self.looks = 3
        self.told: list[Event] = []

    def emit(self, event: Event) -> None:
        self.told.append(event)

    def raise_if_stopped(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise JobStopped


@pytest.mark.parametrize("shape", ["safetensors", "gguf:q8_0"])
def test_a_stopped_export_leaves_nothing(run: RunFolder, tmp_path: Path, shape: str) -> None:
    channel = Stopping()
    with pytest.raises(JobStopped):
        export_run(run, formats=[shape], out_dir=str(tmp_path / "out" / "model"), channel=channel)
    assert list((tmp_path / "out").iterdir()) == []
    assert not [event for event in channel.told if isinstance(event, Exported)]
