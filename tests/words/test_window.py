"""The real window in a language whose every word can be told: what it shows without having said it is a list here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.engine.training_run import write_rows
from tests.words.catalogue import compiled
from tests.words.messages import PACKAGE, messages
from tests.words.pseudo import pseudo, unsaid


def test_every_word_of_the_window_is_said(studio_home: Path, tiny_llama: Path, tmp_path: Path) -> None:
    (studio_home / "languages").mkdir()
    (studio_home / "languages" / "zz.mo").write_bytes(compiled(messages(), pseudo))
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    shown = _shown_words(studio_home, tiny_llama, rows)
    assert len(shown) > 500
    for line in sorted({f"{where}: {text!r}" for where, text in shown if re.search("[A-Za-z]{2}", unsaid(text))}):
        print(line)
    assert 0


def _shown_words(home: Path, model: Path, data: Path) -> list[tuple[str, str]]:
    environment = {
        **os.environ,
        "QLORA_STUDIO_LANGUAGE": "zz",
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONPATH": str(PACKAGE.parent),
    }
    command = [sys.executable, "-m", "tests.words.spoken_window", str(home), str(model), str(data)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert told.returncode == 0, told.stderr
    return [(where, text) for where, text in json.loads(told.stdout.splitlines()[-1])]
