"""An error in what overrides a method of Qt is told, and the window lives on: for C's own errors, too."""

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def test_a_part_that_fails_when_it_is_shown_is_told_of_and_the_window_lives_on(studio_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.window.failing_window"],
        cwd=_ROOT,
        env=os.environ | {"QLORA_STUDIO_HOME": str(studio_home), "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Something went wrong in the window. Runs are not touched by it." in done.stdout
    assert "math domain error" in done.stdout and "During handling" not in done.stdout + done.stderr
