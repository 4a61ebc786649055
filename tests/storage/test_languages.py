from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.words import say, speak
from qlora_studio.storage.languages import languages, speak_chosen
from qlora_studio.storage.settings import Settings, save_settings
from tests.words.catalogue import mo_file

_GERMAN = mo_file({"": "Content-Type: text/plain; charset=UTF-8\n", "Close": "Schließen"})


@pytest.fixture(autouse=True)
def _english_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QLORA_STUDIO_LANGUAGE", "")
    yield
    speak(None)


def _keep(home: Path, name: str, data: bytes = _GERMAN) -> None:
    (home / "languages").mkdir(exist_ok=True)
    (home / "languages" / name).write_bytes(data)


def test_a_file_in_the_users_folder_is_a_language(studio_home: Path) -> None:
    _keep(studio_home, "de.mo")
    assert languages() == ("en", "de")


def test_the_language_of_the_settings_is_spoken(studio_home: Path) -> None:
    _keep(studio_home, "de.mo")
    save_settings(Settings(language="de"))
    speak_chosen()
    assert say("Close") == "Schließen"


def test_the_environment_comes_before_the_settings(studio_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _keep(studio_home, "de.mo")
    save_settings(Settings(language="de"))
    monkeypatch.setenv("QLORA_STUDIO_LANGUAGE", "en")
    speak_chosen()
    assert say("Close") == "Close"


@pytest.mark.parametrize("language", ["fr", "../de", "de.mo", "/etc/passwd", "d" * 1000])
def test_a_language_that_is_not_there_is_english(
    studio_home: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    _keep(studio_home, "de.mo")
    monkeypatch.setenv("QLORA_STUDIO_LANGUAGE", language)
    speak_chosen()
    assert say("Close") == "Close"


@pytest.mark.parametrize("size", range(0, len(_GERMAN), 7))
def test_a_damaged_catalogue_is_no_language(studio_home: Path, size: int) -> None:
    _keep(studio_home, "de.mo", _GERMAN[:size])
    assert languages() == ("en",)
