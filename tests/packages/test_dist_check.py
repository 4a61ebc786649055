"""What make dist-check could not try, it says, and its exit code is not that of a check that passed."""

import subprocess
import sys
from pathlib import Path

_CHECK = Path(__file__).resolve().parents[2] / "packaging" / "dist_check.py"


def test_a_tool_that_is_missing_is_named_and_is_no_success(tmp_path: Path) -> None:
    for name in ("qlora-studio-1.0-setup.exe", "qlora_studio-1.0-py3-none-any.whl", "qlora-studio_1.0_all.deb"):
        (tmp_path / name).touch()

    code, said = _checked(tmp_path, "windows", "debian")

    assert code == 2
    assert "windows: skipped, 7z is not here, which reads the installer: sudo apt install p7zip-full" in said
    assert "debian: skipped, debootstrap is not here, which makes a clean Debian: sudo apt install debootstrap" in said
    assert said.endswith("0 passed, 0 failed, 2 skipped\n")


def test_what_was_not_built_is_a_failure(tmp_path: Path) -> None:
    code, said = _checked(tmp_path, "windows")

    assert code == 1
    assert "windows: failed, qlora-studio-*-setup.exe is not in" in said and "run make dist" in said


def _checked(dist: Path, *ways: str) -> tuple[int, str]:
    """Check where the path leads to no program."""
    command = [sys.executable, str(_CHECK), "--dist", str(dist), "--ways", *ways]
    ended = subprocess.run(command, env={"PATH": str(dist)}, check=False, capture_output=True, text=True)
    return ended.returncode, ended.stdout
