"""The setup's window on a display of its own: what it says, and what its buttons do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bootstrap.conftest import ROOT, Setup

_PROGRAM = """
import sys, tkinter
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.bootstrap.journey import Progress, Step, Wish
from qlora_studio.bootstrap.places import Places
from qlora_studio.bootstrap.source import Source, torch_choice
from qlora_studio.bootstrap.window import SetupWindow

def seen(widget):
    says = isinstance(widget, (tkinter.Label, tkinter.Button)) and widget.winfo_ismapped()
    return ([widget.cget("text")] if says else []) + [text for child in widget.winfo_children() for text in seen(child)]

def show(what):
    window.root.update()
    print(what, "|".join(seen(window.root)).replace(chr(10), " "))

wish = Wish(Source.at(Path(sys.argv[2])), torch_choice("cpu"))
window = SetupWindow(Places(Path(sys.argv[3])), wish)
show("offer")
window._go = lambda journey: None
window._main._button.invoke()
window.show(Progress(Step.FETCH, 0.5, "torch 2.13.0, 310 of 812 MB"))
show("fetch")
window.show_failure(SetupError("The disk became full.", "Free some space."))
show("failure")
window._journey = None
window.leave()
"""


def test_it_offers_shows_how_far_it_is_and_says_what_failed(setup: Setup, xvfb: str, tmp_path: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import tkinter"], check=False, capture_output=True).returncode:
        pytest.skip("this Python was built without Tk")
    command = [sys.executable, "-c", _PROGRAM, str(ROOT), str(setup.package), str(tmp_path / "program")]

    ended = subprocess.run(command, env=os.environ | {"DISPLAY": xvfb}, check=False, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    offer, fetch, failure = ended.stdout.splitlines()
    assert "About 0.6 GB are downloaded; 4 GB are needed in" in offer
    assert offer.endswith("Use a folder of wheels…|Set up|Not now")
    assert "✓|Choose the packages|●|Download|○|Install|○|Try it" in fetch
    assert "torch 2.13.0, 310 of 812 MB" in fetch and fetch.endswith("|Stop")
    assert "✕|Download" in failure
    assert "The disk became full.|Free some space." in failure and "Try again" in failure
