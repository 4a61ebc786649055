"""The worker is the last gate: no job loads or writes anything for a run that is not trusted, whoever started it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.job import ChatJob, ExportJob, VerifyJob
from qlora_studio.engine.chat.job import run as chat
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export.job import run as export
from qlora_studio.engine.verification.job import run as verify
from qlora_studio.storage.runs.export_folder import ExportManifest, staged_export
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.trust import NotTrusted


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of another user, with an export."""
    with monkeypatch.context() as another:
        another.setenv("QLORA_STUDIO_HOME", str(tmp_path / "another user"))
        run = create_run_folder(tmp_path / "received", RunConfig(name="theirs"))
    with staged_export(run.exports_path / "adapter") as staged:
        (staged.path / "adapter_model.safetensors").write_bytes(b"weights")
        staged.manifest = ExportManifest(format="adapter", run=run.path.name)
    return run


@pytest.mark.parametrize(
    ("work", "job"),
    [
        (chat, lambda run: ChatJob(run_dir=str(run.path))),
        (export, lambda run: ExportJob(run_dir=str(run.path))),
        (verify, lambda run: VerifyJob(path=str(run.exports_path / "adapter"))),
        (verify, lambda run: VerifyJob(path=str(run.exports_path / "adapter"), run_dir=str(run.path))),
    ],
    ids=["chat", "export", "verify what lies in it", "verify with it"],
)
def test_a_job_for_a_run_that_is_not_trusted_is_refused(
    work: Callable[[Any, JobContext], object], job: Callable[[RunFolder], Any], theirs: RunFolder, tmp_path: Path
) -> None:
    context = JobContext(RunFolder(tmp_path / "job"))
    before = sorted(theirs.path.rglob("*"))
    with pytest.raises(NotTrusted):
        work(job(theirs), context)
    context.close()
    assert sorted(theirs.path.rglob("*")) == before
