"""Bases in 4 bits that are kept: which are let go of, and what is said of them."""

import os
from pathlib import Path

import pytest

from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.models.kept_bases import KeptManifest, kept_bases, kept_name, kept_path, remove_oldest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is shared with no other test."""
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "user"))


def keep(name: str, used: int) -> None:
    with staged_folder(kept_path() / name) as staged:
        staged.manifest = KeptManifest(base=f"maker/{name}")
    os.utime(kept_path() / name, (used, used))


def test_only_the_bases_that_were_used_last_are_kept() -> None:
    for used, name in enumerate("fbdace"):
        keep(name, used)
    remove_oldest()
    assert [path.name for path in kept_bases()] == ["e", "c", "a", "d"]


def test_a_kept_base_is_called_by_what_it_was_made_from_and_a_damaged_one_by_its_folder() -> None:
    keep("whole", 1)
    keep("damaged", 2)
    (kept_path() / "damaged" / "manifest.json").write_text("{")
    assert [kept_name(path) for path in kept_bases()] == ["damaged", "maker/whole"]
