"""An adapter made elsewhere: merged, proved against base and adapter, with where it came from kept beside it."""

import json
import shutil
from pathlib import Path

import pytest

from qlora_studio.core.run.job import MergeJob, VerifyJob
from qlora_studio.core.run.reports import ExportFacts
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export import merge_job
from qlora_studio.engine.verification import job as verify_job
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.families import make_adapter, make_base, make_tokenizer
from tests.manifests import relist

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    (tmp_path / "job").mkdir()
    return JobContext(RunFolder(tmp_path / "job"))


@pytest.mark.parametrize("has_tokenizer", [True, False], ids=["with a tokenizer", "without one"])
def test_a_merge_without_a_run_is_proved_in_a_fresh_process(
    tmp_path: Path, context: JobContext, has_tokenizer: bool
) -> None:
    base = make_base(tmp_path / "base", "llama")
    if has_tokenizer:
        make_tokenizer(base)
    adapter, out = make_adapter(tmp_path / "adapter", base), tmp_path / "out"
    facts = merge_job.run(MergeJob(base_model=str(base), adapter=str(adapter), out_dir=str(out)), context).facts
    assert isinstance(facts, ExportFacts) and facts.verified, facts
    names = {check.name for check in facts.checks}
    assert {"files", "provenance", "logits", "adapter", "answers"} <= names
    assert ("template" in names) == has_tokenizer
    assert json.loads((out / "training" / "base.json").read_text())["source"] == "base"
    config = json.loads((out / "training" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert json.loads((out / "verification.json").read_text())["verified"]
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))


@pytest.mark.slow
def test_a_merge_without_what_was_learned_is_not_called_right(tmp_path: Path, context: JobContext) -> None:
    base = make_tokenizer(make_base(tmp_path / "base", "llama"))
    adapter, out = make_adapter(tmp_path / "adapter", base), tmp_path / "out"
    merge_job.run(MergeJob(base_model=str(base), adapter=str(adapter), out_dir=str(out)), context)
    shutil.copyfile(base / "model.safetensors", out / "model.safetensors")
    relist(out)
    job = VerifyJob(path=str(out), base_model=str(base), adapter=str(adapter))
    facts = verify_job.run(job, context).facts
    assert isinstance(facts, ExportFacts) and not facts.verified
    assert {check.name for check in facts.checks if not check.passed} >= {"adapter"}
