"""What the pages say of rows while they are read, once they were, and where they cannot be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.readiness.data_question import tokens_question
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.training.view import tiles

WaitUntil = Callable[[Callable[[], object]], None]


@pytest.fixture
def studio(qapp: QApplication, studio_home: Path, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(Settings(idle_worker="none"))
    studio.draft.set_values({"model.source": "starter", "data.path": str(tmp_path / "rows.jsonl")})
    yield studio
    studio.end()


def test_nothing_is_being_counted_any_more_once_the_rows_could_not_be_read(
    studio: Studio, wait_until: WaitUntil
) -> None:
    owner = QObject()
    check = DataCheck(studio, owner)
    said: list[str] = []
    check.changed.connect(lambda: said.append(tiles(studio.draft.config, check.tokens, reading=check.reading)[1].note))
    for _ in range(2):  # the second time, too
        check.want(tokens_question)
        check.look_again()
        wait_until(lambda: studio.data.is_at_work())
        assert said[-1] == "being counted …"
        studio.data.end()  # what its worker would say is said here
        studio.data.store.take((Failed(kind=FailureKind.DATA_NOT_FOUND, message="There is no file."),))
        assert said[-1] == "check the data first"
        assert not check.reading and check.failure is not None
