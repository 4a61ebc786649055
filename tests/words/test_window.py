"""The real window in a language whose every word can be told: what it shows and did not say is what a failure lists."""

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from qlora_studio.core.memory.gpu_catalogue import GPUS
from tests.engine.training_run import write_rows
from tests.words.catalogue import compiled
from tests.words.messages import PACKAGE, messages
from tests.words.pseudo import pseudo, unsaid

_RESOURCES = PACKAGE.parent / "resources"
_PROPER_NAMES = {"Studio", "Ollama", "Alpaca", "Llama", "Python", "English", "auto"}  # the last as a value in run.toml
_KEYS = re.compile(r"((Ctrl|Shift|Alt)\+)*(Esc|Del|Return|Space|[A-Z0-9]+)")  # as Qt writes them in its own language


def test_every_word_of_the_window_is_said(studio_home: Path, tiny_llama: Path, tmp_path: Path) -> None:
    (studio_home / "languages").mkdir()
    (studio_home / "languages" / "zz.mo").write_bytes(compiled(messages(), pseudo))
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    shown = _shown_words(studio_home, tiny_llama, rows)
    data = _data(studio_home, tiny_llama, rows)
    found = {f"{where}: {text}" for where, text in shown if any(not _is_data(piece, data) for piece in unsaid(text))}
    assert len(shown) > 1000
    assert not found, "\n".join(sorted(found))


def _shown_words(home: Path, model: Path, rows: Path) -> list[tuple[str, str]]:
    more = {"QLORA_STUDIO_LANGUAGE": "zz", "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-m", "tests.words.spoken_window", str(home), str(model), str(rows)]
    told = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert told.returncode == 0, told.stderr
    return [(where, text) for where, text in json.loads(told.stdout.splitlines()[-1])]


def _is_data(piece: str, data: str) -> bool:
    """Whether a piece of text is a name, or stands so in what the test chose or in what lists ship with the program."""
    names = (word in _PROPER_NAMES or re.search(r"[0-9_./\\]|[a-z][A-Z]|^[^a-z]*$", word) for word in piece.split())
    if all(names) or _KEYS.fullmatch(piece):
        return True
    return re.search(rf"(?<!\w){re.escape(piece)}(?!\w)", data) is not None


def _data(home: Path, model: Path, rows: Path) -> str:
    """Return all that is data here: of the model, the rows and the runs, of the catalogues, and of this machine."""
    texts = [
        str(home),
        str(model),
        str(rows),
        f"{platform.system()} {platform.release()}",
        model.joinpath("config.json").read_text("utf-8"),
    ]
    texts += [turn["content"] for line in rows.read_text("utf-8").splitlines() for turn in json.loads(line)["messages"]]
    texts += [json.dumps({"messages": []}), *map(str, _told_by_runs(home))]
    texts += [str(tomllib.loads(path.read_text("utf-8"))) for path in _RESOURCES.rglob("*.toml")]
    texts += [gpu.name for gpu in GPUS]
    texts += [str(found.metadata["Name"]) for found in distributions()]
    return "\n".join(texts)


def _told_by_runs(home: Path) -> Iterator[Any]:
    """Yield what the runs were asked, answered and are called, and what model they have."""
    for path in home.glob("runs/*/events.jsonl"):
        events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        yield from (event.get(name, "") for event in events for name in ("prompt", "answer", "architecture"))
    for path in home.glob("runs/*/run.toml"):
        config = tomllib.loads(path.read_text("utf-8"))
        yield from (config["name"], config["model"]["source"], config["data"]["path"])
