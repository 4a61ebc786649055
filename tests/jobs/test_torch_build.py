"""Why a card that answers cannot be trained on: by what PyTorch was built for, what the driver knows, how old it is."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.jobs.torch_build import why_unusable

RunPython = Callable[..., subprocess.CompletedProcess[str]]
_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from qlora_studio.jobs.torch_build import why_unusable
print(why_unusable((8, 9), int(sys.argv[2]) or None))
assert "torch" not in sys.modules
"""
_OF_CUDA_13 = "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("version", "driver", "words"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", 13000, "built for the processor alone"),
        ("__version__ = '2.6.0'\ncuda = None\n", 13000, "built for the processor alone"),
        (_OF_CUDA_13, 11040, "its driver knows CUDA 11, and PyTorch needs 13.0"),
        (_OF_CUDA_13, 13000, ""),
        ("cuda: Optional[str] = '12.8'\n", 12020, ""),  # an older driver of the same major version serves it
        (_OF_CUDA_13, 0, ""),
        ("nothing that is known\n", 11040, ""),
    ],
)
def test_a_build_that_does_not_go_with_the_driver_is_told(
    version: str, driver: int, words: str, tmp_path: Path, run_python: RunPython
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(version)
    said = run_python(_ASK, str(tmp_path), str(driver)).stdout.strip()
    assert words in said
    assert bool(words) is bool(said)


def test_the_file_of_the_installed_pytorch_says_what_pytorch_says(tmp_path: Path, run_python: RunPython) -> None:
    cuda = run_python("import torch; print(torch.version.cuda)").stdout.strip()
    assert ("processor alone" in run_python(_ASK, str(tmp_path), "0").stdout) is (cuda == "None")


def test_a_card_that_is_too_old_is_told() -> None:
    assert "too old" in why_unusable((6, 1), 13000)
