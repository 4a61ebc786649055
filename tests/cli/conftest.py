"""The command line as a person or a script meets it: in this process for what is quick, else in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.cli.main import run


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report, which must be all of stdout."""
        assert len(self.out.splitlines()) == 1, self.out + self.err
        report = json.loads(self.out)
        assert isinstance(report, dict)
        return report


@pytest.fixture
def studio(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process. The window is a number: 111, or 112 with the demo."""

    def call(*arguments: str) -> Outcome:
        try:
            code = run(arguments, open_window=lambda demo: 111 + demo, self_test=lambda as_json: 113 + as_json)
        except SystemExit as ending:  # argparse, on --help and wrong usage
            code = int(ending.code or 0)
        told = capsys.readouterr()
        return Outcome(code, told.out, told.err)

    return call


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


def start_cli(*arguments: str, home: Path, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start the command line in a process of its own; `within` is a program that starts it."""
    return subprocess.Popen(
        [*within, sys.executable, "-m", "qlora_studio", *arguments],
        env={**os.environ, "QLORA_STUDIO_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_cli(*arguments: str, home: Path, within: tuple[str, ...] = ()) -> Outcome:
    """Run the command line in a process of its own."""
    with start_cli(*arguments, home=home, within=within) as process:
        out, err = process.communicate()
        return Outcome(process.returncode, out, err)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    return run_cli


@pytest.fixture(scope="session")
def launch() -> Callable[..., subprocess.Popen[str]]:
    return start_cli


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short chats in JSON Lines."""
    path = tmp_path_factory.mktemp("data") / "chats.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} and {n}?"},
                {"role": "assistant", "content": f"Ahoy! {n} and {n} make {2 * n}."},
            ]
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
