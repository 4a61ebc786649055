"""Advice to install something goes with what made the environment."""

import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from qlora_studio.storage.installation import SETUP_MARK, Way, install_command, installer, pinned, way_of_installation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the paths are those of another system")


@pytest.mark.parametrize(
    ("files", "has_pip", "command"),
    [
        ({}, True, "{python} -m pip install --no-deps 'some>=1'"),
        ({}, False, "{python} -m ensurepip and then {python} -m pip install --no-deps 'some>=1'"),
        ({"uv-receipt.toml": ""}, False, "uv pip install --python {python} --no-deps 'some>=1'"),
        (
            {"pyvenv.cfg": "home = /usr/bin\nuv = 0.9.1\n"},
            False,
            "uv pip install --python {python} --no-deps 'some>=1'",
        ),
        ({"pyvenv.cfg": "home = /usr/bin\nuv = 0.9.1\n"}, True, "{python} -m pip install --no-deps 'some>=1'"),
        ({"pipx_metadata.json": "{}"}, False, "pipx runpip studio install --no-deps 'some>=1'"),
        ({"conda-meta/history": ""}, True, "{python} -m pip install --no-deps 'some>=1'"),
        ({SETUP_MARK: ""}, True, "qlora-studio-setup --repair"),
    ],
    ids=["pip", "no pip", "uv tool", "uv venv", "uv venv with pip", "pipx", "conda", "a package of ours"],
)
def test_the_advice_goes_with_the_environment(
    tmp_path: Path, files: dict[str, str], has_pip: bool, command: str
) -> None:
    prefix = tmp_path / "studio"
    for name, text in files.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text)

    found = install_command("--no-deps", "some>=1", prefix=prefix, has_pip=has_pip)

    assert found == command.format(python=prefix / "bin" / "python3")


def test_what_is_advised_in_a_real_environment_without_pip_works_there(tmp_path: Path) -> None:
    venv.create(tmp_path / "made here", with_pip=False)

    command = install_command("--version", prefix=tmp_path / "made here", has_pip=False)

    first = shlex.split(command.partition(" and then ")[0])
    assert subprocess.run([*first, "--version"], check=False, capture_output=True).returncode == 0


def test_this_environment_is_that_of_the_interpreter_that_runs() -> None:
    found = shlex.split(install_command("something"))

    assert Path(next(word for word in found if word.endswith("python3"))).samefile(sys.executable)


@pytest.mark.parametrize(
    ("files", "way"),
    [
        ({"uv-receipt.toml": "", "pyvenv.cfg": "uv = 0.13.9\n"}, Way.UV_TOOL),
        ({"pipx_metadata.json": "{}", "pyvenv.cfg": "home = /usr/bin\n"}, Way.PIPX),
        ({SETUP_MARK: "", "pyvenv.cfg": "home = /usr/bin\n"}, Way.SETUP),
        ({"conda-meta/history": ""}, Way.CONDA),
        ({"pyvenv.cfg": "home = /usr/bin\nuv = 0.13.9\n"}, Way.UV),
        ({"pyvenv.cfg": "home = /usr/bin\n"}, Way.PIP),
        ({}, Way.PIP),
    ],
)
def test_what_made_an_environment_is_known_by_what_it_left_there(
    tmp_path: Path, files: dict[str, str], way: Way
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert way_of_installation(tmp_path) is way


def test_a_checkout_knows_that_it_is_one() -> None:
    assert way_of_installation() is Way.CHECKOUT


def test_the_installer_of_this_environment_is_here_and_answers() -> None:
    command = installer()

    assert subprocess.run([*command, "--help"], check=False, capture_output=True).returncode == 0


def test_a_package_is_pinned_as_it_was_tested_whatever_its_name_is_written_like() -> None:
    assert pinned("torch").startswith("torch==2.")
    assert pinned("PySide6_Essentials").startswith("pyside6-essentials==6.")
    assert pinned("nobody-pins-this") == "nobody-pins-this"
