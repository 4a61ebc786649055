"""Where a library is gone, the program says so and what mends it, whatever was asked of it."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
sys.modules[sys.argv.pop(1)] = None  # as if it were not installed
from qlora_studio.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(("library", "words"), [("pydantic", ["doctor"]), ("PySide6", [])])
def test_a_missing_library_is_named_with_what_makes_all_anew(library: str, words: list[str]) -> None:
    command = [sys.executable, "-c", _PROGRAM, library, *words]

    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    assert ended.returncode not in (0, -6, -11)
    assert library in ended.stderr and "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) > 1, ended.stderr  # and what to do
