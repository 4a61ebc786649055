"""Files of others: regular ones are read, and nothing else is waited for or followed."""

import os
import sys
from pathlib import Path

import pytest

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.foreign import leads_out, read_bytes, read_json, read_toml

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links are another matter there")


def test_a_file_is_read_and_its_table_returned(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "a.toml").write_text("a = 1")
    assert read_json(tmp_path / "a.json", inside=tmp_path) == read_toml(tmp_path / "a.toml") == {"a": 1}


@pytest.mark.parametrize("path", ["nothing.json", "nowhere/nothing.json", "file/below.json"])
def test_a_file_that_is_not_there_is_the_callers_to_judge(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / path, limit=10)


def test_a_file_over_the_limit_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StudioError, match="larger than 10 bytes"):
        read_bytes(tmp_path / "sparse", limit=10)


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling link", "link to itself"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.json"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case _:
            path.symlink_to(path)
    with pytest.raises(StudioError, match=r"config\.json cannot be read") as caught:
        read_json(path)
    assert caught.value.kind == FailureKind.NOT_READABLE


@posix
@pytest.mark.parametrize("way", ["file", "folder"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, way: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.json").write_text("{}")
    run = tmp_path / "run"
    run.mkdir()
    (run / "way").symlink_to(tmp_path / "elsewhere" / ("secret.json" if way == "file" else ""))
    path = run / "way" if way == "file" else run / "way" / "secret.json"
    with pytest.raises(StudioError, match="leads out of its folder"):
        read_json(path, inside=run)


@posix
def test_links_within_the_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "blob").write_text('{"a": 1}')
    (run / "config.json").symlink_to("blob")
    (tmp_path / "mine").symlink_to(run)
    assert read_json(tmp_path / "mine" / "config.json", inside=tmp_path / "mine") == {"a": 1}


def test_a_file_that_says_nonsense_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StudioError, match=r"a\.json cannot be read: it is no valid JSON \(line 1"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("blob", ["models--a--b/blobs/7", f"blobs/ab/{'0' * 64}", "datasets--a--b/blobs/7"])
def test_links_to_downloads_of_the_hub_do_not_lead_out_and_others_do(tmp_path: Path, blob: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, target in (("config.json", tmp_path / "cache" / blob), ("LICENSE", tmp_path / "secret")):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        (folder / name).symlink_to(target)

    assert not leads_out(folder / "config.json", folder)
    assert leads_out(folder / "LICENSE", folder)
