"""On Linux the name of a file may be any bytes: what cannot be written down is refused in words, and leaves nothing."""

from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Ask
from qlora_studio.core.run.job import DataJob, DownloadJob
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder, create_run_folder

_NAME = b"r\xf6ws.jsonl".decode("utf-8", "surrogateescape")
_CONFIG = RunConfig().with_value("data.more", [{"path": _NAME}])


@pytest.mark.parametrize(
    "write",
    [
        lambda place: create_run_folder(place, _CONFIG),
        lambda place: create_job_folder(place, DataJob(config=_CONFIG)),
        lambda place: create_job_folder(place, DownloadJob(source=_NAME)),
        lambda place: RunFolder(place).send(Ask(request=1, messages=[{"role": "user", "content": _NAME}])),
    ],
)
def test_it_is_named_and_nothing_is_written(tmp_path: Path, write: object) -> None:
    with pytest.raises(StudioError, match=r"'r.udcf6ws\.jsonl' holds bytes that are no text in UTF-8") as refused:
        write(tmp_path / "place")  # type: ignore[operator]
    assert refused.value.kind is FailureKind.INVALID_CONFIG
    assert not (tmp_path / "place").exists()


def test_any_other_writing_is_taken(tmp_path: Path) -> None:
    config = RunConfig().with_value("data.path", "/données/行 😀.jsonl")
    assert create_run_folder(tmp_path, config).config() == config
