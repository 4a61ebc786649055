"""A missing system library is named with the package that brings it."""

import pytest

from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.qt_libraries import PACKAGES
from qlora_studio.ui.window.qt_check import missing, require_qt


@pytest.mark.parametrize("library", PACKAGES)
def test_the_package_of_a_missing_library_is_named_for_debian_and_fedora(library: str) -> None:
    error = missing(f"{library}: cannot open shared object file: No such file or directory")
    debian, fedora = PACKAGES[library]
    assert f"apt install {debian}" in error.advice
    assert f"dnf install {fedora}" in error.advice
    assert library in error.message
    assert "\n" not in error.message + error.advice
    assert error.kind.exit_code == ExitCode.NO_DISPLAY


def test_all_that_are_missing_are_named_in_one_line() -> None:
    error = missing("libxcb-cursor.so.0 libxcb-icccm.so.4")
    assert "libraries libxcb-cursor.so.0, libxcb-icccm.so.4 are missing" in error.message
    assert "sudo apt install libxcb-cursor0 libxcb-icccm4 ·" in error.advice


def test_an_unknown_library_is_named_all_the_same() -> None:
    assert "libwonder.so.3" in missing("libwonder.so.3: cannot open shared object file").message


def test_a_machine_that_has_everything_passes() -> None:
    require_qt()
