"""The doctor's advice for computers that are not like this one: each answer is made from facts, so facts are given."""

from pathlib import Path

import pytest

from qlora_studio.cli.diagnosis import (
    bitsandbytes_finding,
    card_finding,
    disk_finding,
    driver_finding,
    home_finding,
    last_words,
    libraries_finding,
    machine_of,
    torch_finding,
    window_finding,
)
from qlora_studio.core.torch_builds import Machine
from qlora_studio.jobs.gpu_monitor import GpuSample
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.storage.installed_packages import Harm

NO_CARD = Machine("linux")
ADA = Machine("linux", "580.95.05", ((8, 9),))
CPU_BUILD = {"version": "2.13.0+cpu", "cuda_build": None, "hip": None, "available": False}
CUDA_BUILD = {"version": "2.13.0", "cuda_build": "13.0", "hip": None, "available": True}


def card(capability: tuple[int, int]) -> GpuSample:
    return GpuSample(
        available=True, name="Card", total_bytes=8 << 30, free_bytes=7 << 30, compute_capability=capability
    )


def test_a_card_with_a_cpu_only_pytorch_is_a_problem_said_in_plain_words() -> None:
    finding = torch_finding(CPU_BUILD, ADA)

    assert finding.level == "error"
    assert "CPU-only PyTorch is installed" in finding.message
    assert "torch==2.13.0+cu130" in finding.advice and "/whl/cu130" in finding.advice
    assert finding.mend == ("torch==2.13.0+cu130", "--index-url", "https://download.pytorch.org/whl/cu130")


def test_a_cpu_only_pytorch_is_right_without_a_card() -> None:
    assert torch_finding(CPU_BUILD, NO_CARD).level == "ok"


def test_a_driver_too_old_for_any_pytorch_is_a_problem_of_the_driver() -> None:
    finding = torch_finding({**CUDA_BUILD, "available": False}, Machine("linux", "515.105.01", ((8, 9),)))

    assert finding.level == "error"
    assert "too old for the card: at least 580.65.06" in finding.message
    assert "driver" in finding.advice and finding.mend == ()


def test_a_driver_of_another_build_is_mended_by_that_build() -> None:
    finding = torch_finding({**CUDA_BUILD, "available": False}, Machine("linux", "550.163.01", ((8, 9),)))

    assert finding.level == "error"
    assert finding.mend[0] == "torch==2.13.0+cu126"


def test_a_card_that_tells_neither_its_age_nor_its_driver_is_a_card() -> None:
    sample = GpuSample(available=True, name="Card")

    assert torch_finding(CPU_BUILD, machine_of(sample)).level == "error"


@pytest.mark.parametrize(
    ("capability", "built_for", "level"),
    [
        ((8, 9), ["sm_80", "sm_86", "sm_90"], "ok"),
        ((9, 0), ["sm_80", "sm_90a"], "ok"),
        ((12, 0), ["sm_80", "sm_90"], "error"),
        ((12, 0), ["sm_80", "compute_90"], "ok"),
        ((7, 0), ["sm_75", "sm_80"], "error"),
    ],
)
def test_a_build_without_kernels_for_the_card_is_a_problem(
    capability: tuple[int, int], built_for: list[str], level: str
) -> None:
    facts = {**CUDA_BUILD, "capability": list(capability), "built_for": built_for}

    assert torch_finding(facts, ADA).level == level


def test_libraries_that_cannot_be_loaded_are_problems_with_their_own_words() -> None:
    failure = {"failure": "ImportError: libcudart.so.13 is missing"}

    assert "libcudart.so.13" in torch_finding(failure, ADA).message
    assert bitsandbytes_finding(failure).level == "error"


def test_all_libraries_that_a_window_lacks_are_named_at_once_with_one_line() -> None:
    finding = window_finding(("libEGL.so.1", "libGLX.so.0", "libxcb-cursor.so.0"))

    assert finding.level == "warning"
    assert "libEGL.so.1, libGLX.so.0, libxcb-cursor.so.0" in finding.message
    assert "sudo apt install libegl1 libglx0 libxcb-cursor0 ·" in finding.advice


def test_a_computer_without_a_card_is_told_what_it_is_good_for() -> None:
    finding = driver_finding(GpuSample(available=False, reason="No NVIDIA driver is installed."))

    assert finding.level == "warning"
    assert "small models" in finding.message


@pytest.mark.parametrize(("capability", "level"), [((6, 1), "error"), ((7, 5), "ok"), ((8, 6), "ok")])
def test_a_card_is_judged_by_its_age(capability: tuple[int, int], level: str) -> None:
    assert card_finding(card(capability)).level == level


def test_runs_that_cannot_be_written_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert disk_finding(tmp_path / "file" / "runs").level == "error"
    assert disk_finding(tmp_path / "runs").level in ("ok", "warning")


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="a file system that takes nothing")
def test_a_home_that_takes_nothing_is_a_problem_with_the_variable_that_names_another(tmp_path: Path) -> None:
    finding = home_finding(tmp_path / "settings", Path("/proc/self/fdinfo") / "qlora-studio")

    assert finding.level == "error"
    assert "Nothing can be written to /proc/self/fdinfo/qlora-studio" in finding.message
    assert "QLORA_STUDIO_HOME" in finding.advice
    assert home_finding(tmp_path / "settings").level == "ok"


def test_a_library_of_another_version_is_a_warning_and_one_that_is_gone_a_problem() -> None:
    old = Harm("peft", "peft is 0.20, and >=0.21 is needed", "peft==0.21.1", is_grave=False)
    gone = Harm("trl", "trl is not here", "trl==1.16.2")

    assert libraries_finding([]).level == "ok"
    assert libraries_finding([old]).level == "warning"
    assert libraries_finding([old, gone]).level == "error"
    assert (
        libraries_finding([old, gone]).message
        == "Not as they should be: peft is 0.20, and >=0.21 is needed; trl is not here."
    )
    assert libraries_finding([old, gone]).mend == ("--force-reinstall", "--no-deps", "peft==0.21.1", "trl==1.16.2")
    assert libraries_finding([Harm("qlora-studio", "it is torn", "")]).mend == ()  # no index has it


def test_a_card_that_is_there_and_does_not_answer_is_a_problem() -> None:
    card = GpuCard(index=0, uuid="", name="NVIDIA card 0", total_bytes=None, free_bytes=None)
    finding = driver_finding(GpuSample(available=False, reason="NVIDIA card 0 does not answer.", cards=(card,)))

    assert (finding.level, finding.message) == ("error", "NVIDIA card 0 does not answer.")
    assert "Restart" in finding.advice


def test_of_a_failure_that_goes_on_for_lines_the_first_is_told() -> None:
    err = "Traceback:\n  …\ntorch.AcceleratorError: CUDA error: no kernel\nErrors might be reported late\n"

    assert last_words(err) == "torch.AcceleratorError: CUDA error: no kernel"
    assert last_words("a warning\nSegmentation fault\n") == "Segmentation fault"
