"""What is built from the tree holds everything, and building it again gives the same to the byte."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_COMMIT_TIME = "1700000000"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and source, built twice: by users whose files are readable by all, and by themselves alone."""
    folders = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for folder, umask in zip(folders, (0o022, 0o077), strict=True):
        command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _COMMIT_TIME}
        subprocess.run(command, cwd=_ROOT, env=environment, umask=umask, check=True, capture_output=True)
    return folders


def test_building_again_gives_the_same_to_the_byte(built: tuple[Path, Path]) -> None:
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in built)

    assert len(first) == 2
    assert first == second


def test_the_wheel_carries_all_that_the_program_reads(built: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built[0].glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
        names = wheel.namelist()
    program = (
        "from qlora_studio.storage.presets import load_preset; from pathlib import Path; import qlora_studio\n"
        "from qlora_studio.storage.installation import Way, pinned, way_of_installation\n"
        "data = Path(load_preset('starter').data.path)\n"
        "assert data.is_file() and data.is_relative_to(Path(qlora_studio.__file__).parent), data\n"
        "assert pinned('torch').startswith('torch==') and way_of_installation() is not Way.CHECKOUT\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, env={"PYTHONPATH": str(tmp_path)})
    assert {f"qlora_studio/{name}" for name in _ours("qlora_studio")} <= set(names)
    assert {f"qlora_studio/resources/{name}" for name in _ours("resources")} <= set(names)
    assert not [name for name in names if name.startswith("tests")]


def test_the_source_carries_all_of_the_repository_and_what_its_pages_link(built: tuple[Path, Path]) -> None:
    with tarfile.open(next(built[0].glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        owners = {(member.uid, member.gid) for member in archive.getmembers()}
    for page in (*_ROOT.glob("*.md"), *(_ROOT / "docs").glob("*.md"), *(_ROOT / "packaging").glob("*.md")):
        assert str(page.relative_to(_ROOT)) in names
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            target = (page.parent / link).resolve().relative_to(_ROOT)
            assert (_ROOT / target).is_dir() or str(target) in names, (page.name, link)
    assert {"Makefile", "LICENSE", ".ci/run", "packaging/constraints.txt", "tests/conftest.py"} <= names
    assert owners == {(0, 0)}


def _ours(folder: str) -> list[str]:
    """Return the files of a folder, relative to it."""
    files = [path for path in (_ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [str(path.relative_to(_ROOT / folder)) for path in files]
