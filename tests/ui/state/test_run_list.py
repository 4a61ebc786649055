"""The list of runs is read once at a time, and what is asked for meanwhile is read after that."""

from collections.abc import Callable

from PySide6.QtWidgets import QApplication

from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio

WaitUntil = Callable[[Callable[[], object]], None]


def test_a_list_that_is_asked_for_while_it_is_read_is_told_and_then_read_once_more(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    settings = load_settings()
    place = settings.runs_path
    write_sample_run(place / "one", steps=1)
    runs, told = RunsList(Studio(settings)), list[tuple[int, bool]]()
    runs.changed.connect(lambda: told.append((len(runs.lines), runs.is_reading)))
    runs.refresh()
    write_sample_run(place / "two", steps=1)  # which may be too late for the first look
    runs.refresh()
    runs.refresh()
    wait_until(lambda: told and not told[-1][1])
    assert [reads for _, reads in told] == [True, False]
    assert told[-1][0] == 2
