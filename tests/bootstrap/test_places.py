"""The folder of the program: which environment is in use, and which is being made."""

from pathlib import Path

import pytest

from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.bootstrap.places import Environment, Places
from qlora_studio.storage.installation import Way, way_of_installation


def test_an_environment_is_in_use_when_it_was_switched_to_and_is_whole(tmp_path: Path) -> None:
    places = Places(tmp_path)
    first = _made(places, "1.0-aa")
    assert places.current() is None

    places.switch(first)

    assert places.current() == first
    first.python.unlink()  # the system's Python was replaced by another version
    assert places.current() is None


def test_what_the_setup_made_is_known_for_that_by_the_program_in_it(tmp_path: Path) -> None:
    assert way_of_installation(_made(Places(tmp_path), "1.0-aa").folder) is Way.SETUP


def test_what_was_begun_is_gone_on_with_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    places = Places(tmp_path)
    first = places.unfinished("1.0-aa")
    first.folder.mkdir(parents=True)
    assert places.unfinished("1.0-aa") == first
    assert places.unfinished("1.0-bb").folder.name == "1.0-bb.1"

    places.switch(_made(places, "1.0-aa"))

    assert places.unfinished("1.0-aa").folder.name == "1.0-aa.2"


def test_what_is_being_removed_is_never_taken_for_an_environment_and_goes_the_next_time(tmp_path: Path) -> None:
    """A setup was killed while it removed what another had begun; what it made then was removed by the next repair."""
    places = Places(tmp_path)
    begun = places.unfinished("1.0-aa")
    for name in (f"{begun.folder.name}.going", f".going-{begun.folder.name}"):
        (begun.folder.parent / name).mkdir(parents=True)

    made = _made(places, "1.0-aa")
    assert made == begun
    places.switch(made)
    places.remove_unused()

    assert list(begun.folder.parent.iterdir()) == [made.folder]


def test_a_name_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    places = Places(tmp_path / "program")
    elsewhere = _made(Places(tmp_path / "other"), "1.0-aa")
    places.root.mkdir()
    (places.root / "current").write_text(f"../../other/environments/{elsewhere.folder.name}\n", "utf-8")

    assert places.current() is None


def test_two_setups_at_once_are_one_too_many(tmp_path: Path) -> None:
    places = Places(tmp_path / "program")

    with places.locked(), pytest.raises(SetupError, match="already"), places.locked():
        pass

    with places.locked():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(SetupError, match=str(tmp_path / "file" / "program")),
        Places(tmp_path / "file" / "program").locked(),
    ):
        pass


def _made(places: Places, edition: str) -> Environment:
    environment = places.unfinished(edition)
    environment.python.parent.mkdir(parents=True, exist_ok=True)
    environment.python.touch()
    environment.mark_whole()
    return environment
