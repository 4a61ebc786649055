"""What is built from the tree holds everything that the program needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_wheel_carries_the_resources(tmp_path: Path) -> None:
    """Needs a package index: the build's own tools come from there."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(_ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    program = (
        "from qlora_studio.storage.presets import load_preset; from pathlib import Path; import qlora_studio\n"
        "data = Path(load_preset('starter').data.path)\n"
        "assert data.is_file() and data.is_relative_to(Path(qlora_studio.__file__).parent), data\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, env={"PYTHONPATH": str(tmp_path / "installed")})
