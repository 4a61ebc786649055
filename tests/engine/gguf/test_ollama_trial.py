"""The trial in Ollama, with a small program in its place that keeps a list of what it was asked."""

import os
import sys
from pathlib import Path

import pytest

from qlora_studio.engine.gguf.ollama import try_in_ollama

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program in Ollama's place is a shell script")
_PROGRAM = """#!/bin/sh
echo "$@" >> "$OLLAMA_LOG"
case "$1" in
  list) exit $LIST ;;
  create) [ -f "$4" ] && exit $CREATE; exit 9 ;;
  run) printf '%s' "$ANSWER" ;;
esac
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ollama").write_text(_PROGRAM)
    (programs / "ollama").chmod(0o755)
    (tmp_path / "Modelfile").write_text("FROM ./x.gguf\n")
    for name, value in {"LIST": "0", "CREATE": "0", "ANSWER": "Hi <b>there</b>\n"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OLLAMA_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "log"


def test_a_model_that_answers_passes_and_is_removed_again(tmp_path: Path, log: Path) -> None:
    assert try_in_ollama(tmp_path) == (True, "Ollama made the model, and it answers: Hi <b>there</b>")
    asked = [line.split() for line in log.read_text().splitlines()]
    assert [words[0] for words in asked] == ["list", "create", "run", "rm"]
    assert asked[1][1] == asked[2][1] == asked[3][1]


@pytest.mark.parametrize(
    ("variable", "value", "words"), [("CREATE", "1", "Modelfile"), ("ANSWER", "", "did not answer")]
)
def test_a_model_that_ollama_refuses_or_that_is_silent_fails_and_is_removed(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    outcome = try_in_ollama(tmp_path)
    assert outcome is not None
    passed, message = outcome
    assert not passed
    assert words in message
    assert log.read_text().splitlines()[-1].startswith("rm ")


def test_without_an_ollama_that_answers_nothing_is_said(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIST", "1")
    assert try_in_ollama(tmp_path) is None
    assert log.read_text() == "list\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert try_in_ollama(tmp_path) is None
