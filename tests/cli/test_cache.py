"""The cache: what it holds is shown by kind, and removed by kind, while nobody is at work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.models.kept_bases import KeptManifest
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.settings import data_path, load_settings
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, with a base and prepared rows."""
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "user"))
    folder = tmp_path / "user" / "cache"
    with staged_folder(folder / "bases" / "Qwen--Qwen3-8B-0123") as staged:
        (staged.path / "model.safetensors").write_bytes(bytes(3 << 20))
        staged.manifest = KeptManifest(base="Qwen/Qwen3-8B")
    (folder / "datasets" / "abcd").mkdir(parents=True)
    (folder / "datasets" / "abcd" / "training.arrow").write_bytes(bytes(1000))
    (folder / "datasets" / ".ab.lock").touch()
    return folder


def test_what_is_kept_is_shown_by_kind_with_its_name_and_size(studio: Studio, cache: Path) -> None:
    told = studio("cache")
    assert told.code == ExitCode.OK
    assert "Qwen/Qwen3-8B" in told.out and "3.0 MiB" in told.out and str(cache) in told.out
    rooms = studio("cache", "--json").report["rooms"]
    [base] = rooms["bases"]
    assert base["name"] == "Qwen/Qwen3-8B" and base["size"] >= 3 << 20
    assert rooms["datasets"] == [{"name": "abcd", "size": 1000}] and rooms["models"] == []


def test_one_kind_is_removed_and_the_others_stay(studio: Studio, cache: Path) -> None:
    assert studio("cache", "--remove", "bases", "--json").report["removed"] >= 3 << 20
    assert not any((cache / "bases").iterdir())
    assert sorted(path.name for path in (cache / "datasets").iterdir()) == [".ab.lock", "abcd"]


def test_what_links_lead_to_is_neither_counted_nor_removed(studio: Studio, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(bytes(100))
    (cache / "datasets" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert studio("cache", "--remove", "datasets", "--json").report["removed"] == 1000
    assert (tmp_path / "elsewhere" / "file").exists()


def test_nothing_is_removed_while_a_run_is_at_work(studio: Studio, cache: Path) -> None:
    run = create_run_folder(data_path() / "runs", RunConfig(name="busy"))
    with run.lock():
        told = studio("cache", "--remove", "bases", "--json")
    assert told.code == ExitCode.RUN_BUSY and run.path.name in told.report["error"]["message"]
    assert any((cache / "bases").iterdir())


def test_keeping_bases_is_switched_off_and_on_again(studio: Studio) -> None:
    assert load_settings().keep_bases
    told = studio("cache", "--keep-bases", "off")
    assert not load_settings().keep_bases and "are not kept" in told.out
    assert studio("cache", "--keep-bases", "on", "--json").report["keep_bases"] is True
