"""Ctrl-C in every job that loads torch, once and twice, in its phases: the table on docs/COMMANDS.md is tried here."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qlora_studio.core.run.job import VerifyJob
from qlora_studio.engine.context import QUIET, JobContext
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.verification import job as verify_job
from qlora_studio.storage.runs.export_folder import read_export
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from tests.cli.terminal import Terminal
from tests.engine.data.hub_server import Repository, running_hub
from tests.engine.export.loopback_hub import loopback_hub
from tests.engine.finished_run import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind"),
]
SMALL = ["--set", "training.max_length=64", "--set", "training.gradient_accumulation=1", "--set", "lora.rank=4"]
WHOLE = "Whole, and not verified by this: "
NOTHING = "Nothing was exported, and what was begun is removed."
TOKEN = "hf_thisIsNoRealToken0123456789"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def export(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified export."""
    (event,) = export_run(run, formats=["adapter"], channel=QUIET)
    context = JobContext(RunFolder(tmp_path_factory.mktemp("job")))
    verify_job.run(VerifyJob(path=event.path, run_dir=str(run.path)), context)
    return Path(event.path)


@pytest.fixture
def place(studio_home: Path, run: RunFolder, tmp_path: Path) -> Iterator[Path]:
    """Where a command may write; nothing half made and no worker is there in the end."""
    yield tmp_path / "out"
    for folder in (studio_home, run.path, tmp_path):
        assert not [path for path in folder.rglob(".*") if re.match(r"\.(staging-|\d+-)", path.name)]
    words = {str(studio_home), str(run.path), str(tmp_path)}
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in commands if " worker " in line and any(word in line for word in words)]


def interrupted(terminal: Terminal, when: str, *, twice: bool = False) -> str:
    """Press Ctrl-C once `when` is shown; return what is shown up to the end, with an exit code of 130."""
    terminal.wait_for(when)
    terminal.press_ctrl_c()
    if twice:
        terminal.wait_for("Once more ends it at once.")
        terminal.press_ctrl_c()
    code, shown = terminal.ending(240)
    assert code == 130, shown
    assert "Traceback" not in shown
    return shown.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("command", "when", "words"),
    [
        ("export {run} --out {out}", "Starting", NOTHING),
        ("export {run} --out {out}", "Verifying", WHOLE + "{out}"),
        ("merge {run} --out {out}", "Merging|Verifying", f"({re.escape(NOTHING)}|{WHOLE}{{out}})"),
        ("merge --base-model {base} --adapter {run}/adapter --out {out}", "Starting", NOTHING),
        ("merge --base-model {base} --adapter {run}/adapter --out {out}", "Verifying", WHOLE + "{out}"),
        ("verify {export} --way whole", "Starting", "The export is as it was; it is not verified by this."),
        ("verify {export} --way streamed", "Verifying  ", "The export is as it was; it is not verified by this."),
        ("chat {run} --prompt hi --max-new-tokens 4000", "Starting", "The answer ends here."),
        ("chat {run} --prompt hi --max-new-tokens 4000", "Ready", "The answer ends here."),
        ("preview --model {base} --data {data}", "Starting", "The dataset was only read: it is as it was."),
        ("estimate --model {base} --level traced", "Starting|Tracing", "An estimate writes nothing."),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_a_job(
    command: str, when: str, words: str, twice: bool, place: Path, studio_home: Path, run: RunFolder, export: Path
) -> None:
    base, data = run.path.parents[1] / "base-model", run.path.parents[1] / "data.jsonl"
    names = {"run": run.path, "out": place, "export": export, "base": base, "data": data}
    with Terminal(*command.format(**names).split(), home=studio_home) as terminal:
        shown = interrupted(terminal, when, twice=twice)
    wanted = words.format(out=re.escape(str(place))) if words.startswith("(") else re.escape(words.format(out=place))
    assert re.search(f"{'Ended at once' if twice else 'Stopped'}\\. {wanted}", shown), shown
    assert not place.exists() or WHOLE in shown
    if place.exists():
        assert read_export(place).format == "safetensors"


@pytest.mark.parametrize("twice", [False, True])
def test_a_download(
    place: Path, studio_home: Path, tmp_path: Path, twice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * 4_000_000}
    with running_hub() as hub:
        hub.repositories["maker/model"] = Repository({"main": files}, slow=True)
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        with Terminal("download", "maker/model", home=studio_home, HF_HUB_DISABLE_XET="1", **environment) as terminal:
            terminal.wait_for("Downloading")
            deadline = time.monotonic() + 60
            while not list((tmp_path / "hf").rglob("*.incomplete")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            terminal.press_ctrl_c()
            if twice:
                terminal.wait_for("Once more")
                terminal.press_ctrl_c()
            else:
                hub.released.set()
            shown = interrupted_already(terminal)
    assert "The files that came whole are kept: the same command fetches the others." in shown
    assert not list((tmp_path / "hf").rglob("*.incomplete"))


def interrupted_already(terminal: Terminal) -> str:
    code, shown = terminal.ending(240)
    assert (code, "Traceback" in shown) == (130, False), shown
    return shown


@pytest.mark.parametrize("twice", [False, True])
def test_an_upload(place: Path, studio_home: Path, tmp_path: Path, export: Path, twice: bool) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(TOKEN)
    os.environ.pop("HF_TOKEN", None)
    with loopback_hub(TOKEN) as hub:
        hub.may_go_on.clear()
        environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        arguments = ("upload", str(export), "--repo", "captain/log-bot")
        with Terminal(*arguments, home=studio_home, HF_HUB_DISABLE_XET="1", **environment) as terminal:
            terminal.wait_for("Uploading")
            assert hub.uploading.wait(60)
            terminal.press_ctrl_c()
            terminal.wait_for("Once more")
            if twice:
                terminal.press_ctrl_c()
            else:
                hub.may_go_on.set()
            shown = interrupted_already(terminal)
        assert not hub.files.get("captain/log-bot")
    words = "Whether its files are in the repository is not known here" if twice else "None of its files is to be seen"
    assert words in shown


def test_a_run_through_its_phases(place: Path, studio_home: Path, tiny_llama: Path, chats: Path) -> None:
    steps = ["--set", "training.max_steps=100000", "--set", "export.merge=false", "--set", "checkpoint.every_steps=2"]
    with Terminal(
        *("train", "--model", str(tiny_llama), "--data", str(chats), *SMALL, *steps), home=studio_home
    ) as terminal:
        shown = interrupted(terminal, r"[3-9]/100000")
    [run] = run_folders(studio_home / "runs")
    state = run.state()
    assert f"Stopped after {state.step} steps" in shown and f"Adapter: {run.adapter_path}" in shown
    assert state.checkpoint is not None and (run.checkpoints_path / state.checkpoint.name).is_dir()
    with Terminal("resume", str(run.path), home=studio_home) as terminal:
        shown = interrupted(terminal, rf"Step {state.step + 2}\d*: checkpoint-|Step {state.step + 1}: ch", twice=True)
    state = run.state()
    assert state.checkpoint is not None
    assert f"Ended at once. {state.checkpoint.name} is safe; what was learned after it is lost." in shown
    assert (run.checkpoints_path / state.checkpoint.name).is_dir()
    assert state.failure is not None and state.failure.kind == "interrupted"


@pytest.mark.parametrize("twice", [False, True])
def test_a_run_that_is_making_something_of_its_adapter(
    place: Path, studio_home: Path, tiny_llama: Path, chats: Path, twice: bool
) -> None:
    steps = ["--set", "training.max_steps=2", "--set", "export.merge=true"]
    with Terminal(
        *("train", "--model", str(tiny_llama), "--data", str(chats), *SMALL, *steps), home=studio_home
    ) as terminal:
        shown = interrupted(terminal, "Verifying", twice=twice)
    [run] = run_folders(studio_home / "runs")
    assert "Stopping: the adapter is saved already, and what is made of it now is given up." in shown
    assert (run.adapter_path / "adapter_model.safetensors").is_file()
    told = "Ended at once. The adapter of step 2 is safe: " if twice else "Stopped after 2 steps"
    assert told in shown
    assert str(run.adapter_path) in shown


def test_the_demo(place: Path, studio_home: Path, starter_gguf: Path) -> None:
    with Terminal("demo", "--no-window", home=studio_home) as terminal:
        shown = interrupted(terminal, "Starting", twice=True)
    assert "Ended at once. There was no checkpoint: nothing was learned." in shown
