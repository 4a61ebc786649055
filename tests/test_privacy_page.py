"""docs/PRIVACY.md names everything that is stored beside a run."""

import re
from pathlib import Path

from qlora_studio.storage.network import VARIABLE
from qlora_studio.storage.runs.cache_rooms import ROOMS
from qlora_studio.storage.runs.run_folder import RunFolder

_ROOT = Path(__file__).parents[1]
_PAGE = (_ROOT / "docs" / "PRIVACY.md").read_text("utf-8")
_STORED = re.compile(r'(?:cache_path|data_path)\(\)\s*/\s*"([^"]+)"|settings_path\(\)\.with_name\("([^"]+)"\)')


def test_every_place_that_the_program_writes_to_is_named() -> None:
    sources = [path.read_text("utf-8") for path in (_ROOT / "qlora_studio").rglob("*.py")]
    places = {name for text in sources for pair in _STORED.findall(text) for name in pair if name}

    assert {"jobs", "trust", "session.json"} <= places
    assert {name for name in places | {room.name for room in ROOMS} if f"`{name}`" not in _PAGE} == set()


def test_every_file_of_a_run_that_holds_words_of_its_user_is_named() -> None:
    run = RunFolder("run")
    for path in (run.config_path, run.events_path, run.commands_path, run.log_path):
        assert f"`{path.name}`" in _PAGE


def test_the_switch_is_called_what_it_is() -> None:
    assert f"`{VARIABLE}=1`" in _PAGE
