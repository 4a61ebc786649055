"""A base in 4 bits that is kept: on a card it is by itself, and read with the bits that its files give there."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

_LOADED_TWICE = """
import sys, torch
from pathlib import Path
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.context import QuietReporter
from qlora_studio.engine.model import kept_base
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.storage.models.kept_bases import kept_bases

class Told(QuietReporter):
    def warn(self, kind, message):
        raise AssertionError(message)

kept_base._LEAST = 0
for name in ("cpu", "cuda:0"):
    device = Device(name, torch.bfloat16, "adamw_torch", True)
    made, kept = (load_base(Path(sys.argv[1]), RunConfig(), device, reporter=Told()).state_dict() for _ in range(2))
    assert made.keys() == kept.keys()
    assert {str(tensor.device) for key, tensor in kept.items() if "bitsandbytes" not in key} == {name}
    assert all(torch.equal(made[key], kept[key]) for key in made)
assert len(kept_bases()) == 2
"""


@pytest.mark.slow
def test_what_is_kept_on_a_card_is_what_its_files_give_there(
    machine: Callable[..., None],
    run_python: Callable[..., CompletedProcess[str]],
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "user"))
    machine()
    run_python(_LOADED_TWICE, str(tiny_llama))
