"""What an update takes over from the environment in use."""

import os
import sys
import zipfile
from pathlib import Path

import pytest

from qlora_studio.bootstrap.places import Environment
from qlora_studio.bootstrap.plan import Piece
from qlora_studio.bootstrap.reuse import taken_over
from tests.bootstrap.conftest import small_wheel

PIECES = [Piece("same-one", "1.0", ""), Piece("newer", "2.0", ""), Piece("cut-off", "1.0", "")]


@pytest.fixture
def old(tmp_path: Path) -> Environment:
    """An environment with three packages, and a program of the first."""
    environment = Environment(tmp_path / "old")
    for name in ("Same_One", "newer", "cut.off"):
        small_wheel(tmp_path / "wheels", name, "1.0", {f"{name}.py": "x = 1\n"})
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-1.0-py3-none-any.whl") as wheel:
            wheel.extractall(environment.packages)
    program = environment.python.with_name("same-one")
    program.parent.mkdir()
    program.write_text(f"#!{environment.python}\nimport Same_One\n", "utf-8")
    program.chmod(0o755)
    path = os.path.relpath(program, environment.packages)
    with (environment.packages / "Same_One-1.0.dist-info" / "RECORD").open("a", encoding="utf-8") as record:
        record.write(f"{path},,\n")
    return environment


def test_what_stays_the_same_is_linked_and_what_is_newer_or_cut_off_is_not(old: Environment, tmp_path: Path) -> None:
    new = Environment(tmp_path / "new")
    (old.packages / "cut.off.py").write_text("x", "utf-8")

    assert taken_over(old, new, PIECES) == {"same-one"}

    assert (new.packages / "Same_One.py").samefile(old.packages / "Same_One.py")
    assert sorted(path.name for path in new.packages.iterdir()) == ["Same_One-1.0.dist-info", "Same_One.py"]


@pytest.mark.skipif(sys.platform == "win32", reason="programs there are started by their modules")
def test_a_program_that_is_taken_over_runs_on_the_new_python(old: Environment, tmp_path: Path) -> None:
    new = Environment(tmp_path / "new")

    taken_over(old, new, PIECES)

    program = new.python.with_name("same-one")
    assert program.read_text("utf-8").splitlines()[0] == f"#!{new.python}"
    assert os.access(program, os.X_OK)
    assert str(old.python) in old.python.with_name("same-one").read_text("utf-8")
