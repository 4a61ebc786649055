"""What lies in a folder is never taken for a Python module: a run's, the data's, the model's, or the user's own."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qlora_studio import child_process
from qlora_studio.cli.diagnosis import diagnose
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import VerificationReported
from qlora_studio.engine.gguf.llama_cpp import CHILD
from qlora_studio.engine.templates.sandbox import TemplateSandbox
from qlora_studio.jobs.job_folders import new_job_folder
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.settings import cache_path
from tests.engine.training_run import follow, make_run

_PRODUCT = Path(child_process.__file__).parent
_MODULES = (
    *("json", "random", "typing", "logging", "sitecustomize", "usercustomize"),  # Python's
    *("jinja2", "torch", "numpy", "transformers", "pydantic", "datasets", "yaml", "filelock", "psutil", "triton"),
    *("qlora_studio", "resource", "bitsandbytes", "tokenizers", "llama_cpp", "PySide6"),
)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """Where a planted module says that it was imported."""
    return tmp_path / "imported"


@pytest.fixture
def plant(imported: Path) -> Callable[[Path], None]:
    """Put modules with the names of libraries into a folder."""

    def put(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _MODULES:
            program = f"with open({str(imported)!r}, 'a') as file:\n    print(__file__, file=file)\n"
            (folder / f"{name}.py").write_text(program + "raise ImportError('planted')\n")

    return put


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, plant: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands, full of planted modules."""
    folder = tmp_path / "where the user stands"
    plant(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path, tiny_llama: Path, plant: Callable[[Path], None]) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    plant(folder)
    return folder


def test_a_run_with_its_template_and_verification_imports_nothing_that_lies_about(
    tmp_path: Path, model: Path, plant: Callable[[Path], None], imported: Path, studio_home: Path
) -> None:
    run = make_run(tmp_path / "runs", model, "training.max_steps=2", "export.merge=true", rows=12)
    for folder in (run.path, run.checkpoints_path, run.adapter_path, run.exports_path, run.jobs_path):
        plant(folder)
    plant(tmp_path / "runs")  # the rows lie there
    for folder in (studio_home, cache_path(), cache_path() / "datasets"):
        plant(folder)

    events = follow(start_worker(run))

    assert run.state().phase is Phase.FINISHED, run.log_path.read_text()
    assert any(isinstance(event, VerificationReported) for event in events)
    assert not imported.exists(), imported.read_text()
    assert list(child_process.neutral_folder().iterdir()) == []


def test_reading_a_dataset_imports_nothing_that_lies_about(
    tmp_path: Path, model: Path, plant: Callable[[Path], None], imported: Path
) -> None:
    run = make_run(tmp_path / "runs", model, rows=4)
    plant(tmp_path / "runs")
    job = new_job_folder(DataJob(config=run.config()))
    plant(job.path)

    follow(start_worker(job))

    assert job.state().phase is Phase.FINISHED, job.log_path.read_text()
    assert not imported.exists(), imported.read_text()


def test_rendering_a_template_imports_nothing_that_lies_about(imported: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    sandbox = TemplateSandbox(template, variables={}, control_tokens=(), end_token="", now=now, learned="all")
    try:
        found = sandbox.render([([{"role": "user", "content": "Hi"}], None, None)])
    finally:
        sandbox.close()

    assert found[0]["text"] == "Hi"
    assert not imported.exists(), imported.read_text()


def test_the_doctor_imports_nothing_that_lies_about(imported: Path) -> None:
    findings = {finding.name: finding for finding in diagnose()}

    assert findings["PyTorch"].level == findings["bitsandbytes"].level == "ok"
    assert not imported.exists(), imported.read_text()


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "qlora_studio", "queue", "--json"],
        [str(Path(sys.executable).with_name("qlora-studio")), "queue", "--json"],
        [sys.executable, "-m", "qlora_studio", "--self-test"],
    ],
    ids=["as a module", "by its own name", "with a window"],
)
def test_the_program_itself_imports_nothing_that_lies_where_the_user_stands(
    user_folder: Path, imported: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (user_folder / "qlora_studio.py").unlink()  # Python takes that for the program, before anything of it runs
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not imported.exists(), imported.read_text()


@pytest.mark.parametrize(
    "words",
    [("supervise", "/nowhere/program", "/nowhere"), ("recover", "/nowhere", "1", "0"), ("worker", "/nowhere")],
    ids=lambda words: words[0],
)
def test_what_looks_after_a_worker_imports_nothing_that_lies_about(words: tuple[str, ...], imported: Path) -> None:
    child_process.ask(child_process.python("-m", "qlora_studio", *words), 60)

    assert not imported.exists(), imported.read_text()


def test_the_process_of_llama_cpp_imports_nothing_that_lies_about(
    tmp_path: Path, plant: Callable[[Path], None], imported: Path
) -> None:
    plant(tmp_path / "models")
    (tmp_path / "models" / "x.gguf").write_bytes(b"no GGUF")

    for words in ((), (str(tmp_path / "models" / "x.gguf"), "1")):
        child_process.ask(child_process.python("-m", CHILD, *words), 60)

    assert not imported.exists(), imported.read_text()


def test_a_grandchild_imports_nothing_that_lies_about_either(user_folder: Path, imported: Path) -> None:
    program = (
        f"import os, subprocess, sys; os.chdir({str(user_folder)!r}); "
        "sys.exit(subprocess.run([sys.executable, '-c', 'import jinja2']).returncode)"
    )

    assert child_process.ask(child_process.python("-c", program), 60)[0] == 0
    assert not imported.exists(), imported.read_text()


def test_folders_in_the_environment_mean_to_a_child_what_they_mean_here(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_HOME", "home")
    monkeypatch.setenv("PYTHONPATH", f"sources{os.pathsep}")
    program = "import os; print(os.environ['QLORA_STUDIO_HOME'], os.environ['PYTHONPATH'], sep='\\n')"

    _, out, _ = child_process.ask(child_process.python("-c", program), 60)

    assert out.splitlines() == [str(user_folder / "home"), str(user_folder / "sources")]


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        child_process.ask(child_process.python("-c", "import time; time.sleep(600)"), 0.2)


def test_processes_are_started_in_one_place() -> None:
    """The setup of a package is a program of its own, which must run where there is no other yet."""
    starting = [
        path
        for path in _PRODUCT.rglob("*.py")
        if _PRODUCT / "bootstrap" not in path.parents
        and any(_is_start(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    ]

    assert starting == [Path(child_process.__file__)]


def _is_start(node: ast.AST) -> bool:
    """Whether it is `sys.executable`, or a call of what starts a process."""
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
        return True
    if not isinstance(node, ast.Call):
        return False
    module, _, name = ast.unparse(node.func).rpartition(".")
    if module == "subprocess":
        return name in ("Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput")
    if module == "os":
        return name.startswith(("exec", "spawn", "fork", "posix_spawn", "system", "popen", "startfile"))
    return name in ("QProcess", "ProcessPoolExecutor") or (name == "Process" and module != "psutil")
