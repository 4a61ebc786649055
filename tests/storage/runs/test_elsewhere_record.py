"""Where a run is counts by this user's own word alone: what a folder says of itself names no job, folder or network."""

import shutil
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.storage.places import save_place
from qlora_studio.storage.run_care.removal import require_removable
from qlora_studio.storage.runs.elsewhere_record import (
    ElsewhereRecord,
    is_network_trusted,
    is_open_elsewhere,
    read_record,
    record_network,
    record_sent,
    write_record,
    write_told,
)
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.trusted_run import Question, require_startable

_HERE = {"place": "cluster", "home": "/home/me/runs", "name": "first", "job": "42", "open": True}


@pytest.fixture
def run(studio_home: Path) -> RunFolder:
    """A run, and a place of the user's own."""
    save_place(Place(name="cluster", host="login.example"))
    return create_run_folder(studio_home / "runs", RunConfig(name="first"))


def _say(folder: RunFolder, **changes: object) -> ElsewhereRecord:
    record = ElsewhereRecord.model_validate(_HERE | changes)
    write_record(folder.path, record)
    write_told(folder.path, ElsewhereTold(place="cluster", job="42", standing="running"))
    return record


def test_a_folder_that_came_from_elsewhere_is_no_run_of_a_place_even_once_its_settings_are_trusted(
    run: RunFolder, tmp_path: Path
) -> None:
    theirs = RunFolder(tmp_path / "theirs")
    shutil.copytree(run.path, theirs.path)
    _say(theirs)
    question = Question(theirs)
    assert question.lines[-1].startswith("It says that job 42 on cluster is at work on it")
    question.accept()
    require_startable(theirs)

    assert read_record(theirs.path) is None
    assert not is_open_elsewhere(theirs.path)
    assert not theirs.is_busy()
    require_removable(theirs)


@pytest.mark.parametrize(
    "changed",
    [{"job": "43"}, {"home": "/home/me/other"}, {"name": "other"}, {"place": "second"}],
    ids=lambda item: next(iter(item)),
)
def test_what_a_record_names_cannot_be_changed_in_the_folder(run: RunFolder, changed: dict[str, str]) -> None:
    save_place(Place(name="second"))
    record_sent(run.path, _say(run))
    assert read_record(run.path) is not None
    _say(run, open=False, commands_sent=7, events_before=9)
    assert read_record(run.path) is not None, "how far it was followed is no word of the user's"
    _say(run, **changed)
    assert read_record(run.path) is None


def test_a_network_is_trusted_by_the_users_word_for_that_run_and_interface(run: RunFolder, tmp_path: Path) -> None:
    _say(run, trusted="ib0")
    assert not is_network_trusted(run.path, "cluster", "ib0")
    record_network(run.path, "cluster", "ib0")
    assert is_network_trusted(run.path, "cluster", "ib0")
    assert not is_network_trusted(run.path, "cluster", "ib1")
    assert not is_network_trusted(run.path, "second", "ib0")
    assert not is_network_trusted(tmp_path / "another", "cluster", "ib0")


def test_a_run_that_its_user_moved_is_where_it_was(run: RunFolder, tmp_path: Path) -> None:
    record_sent(run.path, _say(run))
    moved = tmp_path / run.path.name
    shutil.move(run.path, moved)
    assert read_record(moved) is not None


def test_a_run_that_its_user_renamed_is_still_where_it_was_once_it_is_trusted_again(run: RunFolder) -> None:
    record_sent(run.path, _say(run, name=run.path.name))
    renamed = RunFolder(run.path.rename(run.path.with_name("better-name")))
    with pytest.raises(StudioError, match="its folder was renamed since"):
        require_startable(renamed)
    Question(renamed).accept()
    require_startable(renamed)

    assert read_record(renamed.path) is not None
    assert renamed.is_busy()
    with pytest.raises(StudioError, match="its job on another computer is not over"):
        require_removable(renamed)
    shutil.move(renamed.path, run.path.with_name("best-name"))
    assert read_record(run.path.with_name("best-name")) is not None
