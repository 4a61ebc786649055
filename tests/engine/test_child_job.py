"""A job within a job that ends without a word is told in words, with what a job can do about it."""

import os
import re
from pathlib import Path

import pytest

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.job import VerifyJob
from qlora_studio.engine.child_job import run_child
from qlora_studio.engine.context import QUIET


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os.kill(os.getpid(), 9)", "SIGKILL: most often .* for want of memory"),
        ("os.abort()", "SIGABRT: a library gave up"),
    ],
)
def test_a_child_that_dies_says_how_and_speaks_of_no_checkpoint(
    end: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import os\n{end}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    ending, reports = run_child(VerifyJob(path=str(tmp_path)), tmp_path / "jobs", QUIET)
    assert isinstance(ending, Failed)
    assert ending.kind == FailureKind.WORKER_DIED
    assert re.search(words, ending.message)
    assert "checkpoint" not in ending.advice
    assert reports == []
