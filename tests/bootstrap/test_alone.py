"""The setup runs on a Python that has nothing, and looks like the program."""

import subprocess
import sys
from dataclasses import asdict

import pytest

from qlora_studio.bootstrap.look import DARK, LIGHT, Colours
from qlora_studio.ui.kit import theme
from tests.bootstrap.conftest import ROOT

_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import qlora_studio.bootstrap as room
for module in pkgutil.iter_modules(room.__path__):
    if module.name not in sys.argv[2:]:
        importlib.import_module(f"{room.__name__}.{module.name}")
known = sys.stdlib_module_names | {"qlora_studio", "__main__"}
print(sorted(name for name in sys.modules if name.split(".")[0] not in known))
"""


def test_it_needs_the_standard_library_alone() -> None:
    without_tk = [] if _has_tk() else ["window", "look"]
    command = [sys.executable, "-I", "-S", "-c", _ALL, str(ROOT), *without_tk]

    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert said == "[]\n"


@pytest.mark.parametrize(("colours", "whole"), [(LIGHT, theme.LIGHT), (DARK, theme.DARK)])
def test_its_colours_are_those_of_the_window(colours: Colours, whole: theme.Theme) -> None:
    tokens = whole.tokens()
    of_the_window = {"background": "panel", "button": "hover"}

    assert asdict(colours) == {name: tokens[of_the_window.get(name, name)] for name in asdict(colours)}


def _has_tk() -> bool:
    return subprocess.run([sys.executable, "-c", "import tkinter"], check=False, capture_output=True).returncode == 0
