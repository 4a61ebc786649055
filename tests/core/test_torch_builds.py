"""Which build of PyTorch goes with which card and driver: from Turing to Blackwell, in WSL, and without a card.

What drivers answer stands here as NVML and nvidia-smi write it, of cards as NVIDIA's own tables have them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from qlora_studio.core.torch_builds import (
    BUILDS,
    Machine,
    System,
    build_of_cuda,
    choose_build,
    machine_from_smi,
    system_of,
)

_MODULE = Path(__file__).parents[2] / "qlora_studio" / "core" / "torch_builds.py"

# System, what nvidia-smi prints of driver and compute capability, and the build; a problem by a word of its sentence.
ANSWERS: dict[str, tuple[System, str, str, str]] = {
    "RTX 2060, Turing": ("linux", "580.95.05, 7.5\n", "cu130", ""),
    "RTX 2060, a driver of 2023": ("linux", "535.183.01, 7.5\n", "cu126", ""),
    "GTX 1660 Ti, the least driver of all": ("linux", "525.60.13, 7.5\n", "cu126", ""),
    "A100": ("linux", "570.86.15, 8.0\n", "cu126", ""),
    "RTX 3090, Ampere": ("linux", "580.65.06, 8.6\n", "cu130", ""),
    "RTX 4090, Ada": ("linux", "590.44.01, 8.9\n", "cu130", ""),
    "RTX 4090, just too old for CUDA 13": ("linux", "575.64.03, 8.9\n", "cu126", ""),
    "RTX 4090, too old for anything": ("linux", "515.105.01, 8.9\n", "cpu", "at least 580.65.06"),
    "H100, Hopper": ("linux", "550.163.01, 9.0\n", "cu126", ""),
    "B200, Blackwell": ("linux", "580.95.05, 10.0\n", "cu130", ""),
    "RTX 5090, Blackwell": ("linux", "580.105.08, 12.0\n", "cu130", ""),
    "RTX 5090, the driver it came with": ("linux", "570.86.16, 12.0\n", "cpu", "at least 580.65.06"),
    "DGX Spark": ("linux", "580.95.05, 12.1\n", "cu130", ""),
    "RTX 4070 on Windows": ("windows", "581.80, 8.9\r\n", "cu130", ""),
    "RTX 4070 on Windows, a driver of 2024": ("windows", "560.94, 8.9\r\n", "cu126", ""),
    "RTX 5080 on Windows, too old": ("windows", "572.83, 12.0\r\n", "cpu", "at least 580.88"),
    "RTX 5080 in WSL": ("wsl", "581.15, 12.0\n", "cu130", ""),
    "RTX 3060 in WSL, just below Linux's number and above Windows's": ("wsl", "528.49, 8.6\n", "cu126", ""),
    "RTX 5080 in WSL, too old": ("wsl", "572.83, 12.0\n", "cpu", "at least 580.88"),
    "GTX 1080, Pascal": ("linux", "580.95.05, 6.1\n", "cpu", "RTX 20 series"),
    "V100, Volta": ("linux", "580.95.05, 7.0\n", "cpu", "RTX 20 series"),
    "a card of the future": ("linux", "700.10.01, 15.0\n", "cpu", "newer version"),
    "an old card beside a new one": ("linux", "580.95.05, 6.1\n580.95.05, 8.6\n", "cu130", ""),
    "two generations, an old driver": ("linux", "570.86.16, 8.6\n570.86.16, 12.0\n", "cu126", "at least 580.65.06"),
    "no card": ("linux", "No devices were found\n", "cpu", ""),
    "no driver": ("linux", "", "cpu", ""),
    "a driver that tells nothing": ("linux", "[N/A], [N/A]\n", "cpu", ""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_build_goes_with_card_and_driver(name: str) -> None:
    system, said, build, problem = ANSWERS[name]

    choice = choose_build(machine_from_smi(said, system))

    assert choice.build == build
    assert choice.index.endswith(f"/whl/{build}")
    assert problem in f"{choice.problem} {choice.advice}" and bool(choice.problem) is bool(problem)
    assert choice.why or choice.problem


def test_in_wsl_the_driver_is_installed_in_windows_alone() -> None:
    assert "in Windows" in choose_build(Machine("wsl", "472.12", ((8, 6),))).advice
    assert "in Windows" not in choose_build(Machine("linux", "470.82.01", ((8, 6),))).advice


def test_a_build_is_known_by_its_cuda() -> None:
    assert [build_of_cuda(build.cuda) for build in BUILDS] == list(BUILDS)
    assert build_of_cuda("11.8") is None


@pytest.mark.parametrize(
    ("platform", "kernel", "system"),
    [
        ("linux", "6.1.0-38-amd64", "linux"),
        ("linux", "5.15.167.4-microsoft-standard-WSL2", "wsl"),
        ("win32", "10", "windows"),
    ],
)
def test_wsl_is_known_by_its_kernel(platform: str, kernel: str, system: str) -> None:
    assert system_of(platform, kernel) == system


def test_the_table_is_read_by_a_python_without_packages() -> None:
    """A bootstrap asks it before anything is installed: -I and -S leave nothing but the standard library."""
    program = f"import sys; sys.path.insert(0, {str(_MODULE.parents[2])!r}); import qlora_studio.core.torch_builds"

    assert subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False).returncode == 0
