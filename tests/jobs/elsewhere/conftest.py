"""A place that needs no ssh: this computer hands out jobs itself, by a stand-in for SLURM's programs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.jobs.elsewhere.sending import plan_sending
from qlora_studio.jobs.elsewhere.submission import submit
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.elsewhere.places import place_for, put_scheduler

Submit = Callable[[str], RunFolder]


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the scheduler's stand-in."""
    folder = put_scheduler(tmp_path, monkeypatch)
    yield folder
    (folder / "hold").unlink(missing_ok=True)


@pytest.fixture
def send(scheduler: Path, studio_home: Path, tmp_path: Path) -> Submit:
    """Sends a run to the place `cluster`, whose program plays a script."""
    data = tmp_path / "it's data.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": str(data)}})

    def submitted(script: str) -> RunFolder:
        return submit(plan_sending(config, place_for(script, tmp_path)), studio_home / "runs")

    return submitted
