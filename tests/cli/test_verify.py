"""`verify` on the command line: the way that is asked for, told before it begins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from tests.cli.conftest import Outcome
from tests.engine.finished_run import make_run


@pytest.mark.slow
@pytest.mark.parametrize(("way", "words"), [("streamed", "models layer by layer"), ("whole", "models loaded whole")])
def test_models_come_as_is_asked_and_that_is_told_first(
    way: str, words: str, cli: Callable[..., Outcome], tmp_path: Path, studio_home: Path
) -> None:
    run = make_run(tmp_path)
    export = export_run(run, formats=["safetensors"], channel=QUIET)[0].path
    outcome = cli("verify", export, "--run", str(run.path), "--way", way, home=studio_home)
    assert outcome.code == 0, outcome
    assert f"Verification: {words}, " in outcome.err
