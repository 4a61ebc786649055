"""Exports are complete or not there: whatever stands in the way, and however the process ends."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.storage.runs import export_folder
from qlora_studio.storage.runs.export_folder import (
    ExportManifest,
    damages,
    read_export,
    safe_name,
    staged_export,
)
from qlora_studio.storage.staging import remove_abandoned

without_links = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def make_export(final: Path) -> Path:
    with staged_export(final) as staged:
        (staged.path / "model.safetensors").write_bytes(b"weights" * 100)
        (staged.path / "training").mkdir()
        (staged.path / "training" / "run.toml").write_text("name = 'x'")
        staged.manifest = ExportManifest(format="safetensors")
    return final


def test_an_export_is_there_whole_with_a_manifest_that_verifies(tmp_path: Path) -> None:
    final = make_export(tmp_path / "exports" / "model")
    assert sorted(read_export(final).files) == ["model.safetensors", "training/run.toml"]
    assert read_export(final).format == "safetensors"
    assert damages(final) == []
    assert [path.name for path in final.parent.iterdir()] == ["model"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.usefixtures("umask")
def test_files_can_be_read_by_other_users(tmp_path: Path) -> None:
    final = tmp_path / "model"
    with staged_export(final) as staged:
        descriptor = os.open(staged.path / "private", os.O_CREAT | os.O_WRONLY, 0o600)
        os.close(descriptor)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in final.iterdir()}
    assert modes == {"private": 0o644, "manifest.json": 0o644}


@pytest.mark.parametrize("change", ["flip", "cut", "remove", pytest.param("link", marks=without_links)])
def test_every_later_change_is_noticed(tmp_path: Path, change: str) -> None:
    final = make_export(tmp_path / "model")
    path = final / "model.safetensors"
    data = path.read_bytes()
    match change:
        case "flip":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "cut":
            path.write_bytes(data[:-1])
        case "remove":
            path.unlink()
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
    assert len(damages(final)) == 1
    assert "model.safetensors" in damages(final)[0]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_export(tmp_path / "exports" / "model") as staged:
        (staged.path / "half").write_bytes(b"half")
        raise RuntimeError
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["folder", "file", *(pytest.param(kind, marks=without_links) for kind in ("link", "dangling link"))]
)
def test_nothing_that_exists_is_replaced(tmp_path: Path, kind: str) -> None:
    final, other = tmp_path / "model", tmp_path / "other"
    other.mkdir()
    match kind:
        case "folder":
            final.mkdir()
        case "file":
            final.write_text("mine")
        case "link":
            final.symlink_to(other)
        case "dangling link":
            final.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StudioError, match="exists already") as caught, staged_export(final):
        pass
    assert caught.value.kind == "not_writable"
    assert list(other.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "a b", "x\n", "ü", "-rf", "con:", "dot."]
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(StudioError, match="cannot be the name"):
        safe_name(name)


def test_plain_names_are_taken() -> None:
    assert safe_name("gguf-q4_K_M.v2") == "gguf-q4_K_M.v2"


def test_a_file_that_grows_too_large_for_the_disk_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limits on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(StudioError) as caught, staged_export(tmp_path / "exports" / "model") as staged:
            (staged.path / "large").write_bytes(bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.kind == "disk_full"
    assert list((tmp_path / "exports").iterdir()) == []


_WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from qlora_studio.storage.runs.export_folder import staged_export
with staged_export(Path(sys.argv[1])) as staged:
    (staged.path / "half").write_bytes(b"half")
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


def test_what_a_killed_export_left_is_no_export_and_goes_with_the_next_one(tmp_path: Path) -> None:
    parent, ready = tmp_path / "exports", tmp_path / "ready"
    process = subprocess.Popen([sys.executable, "-c", _WRITES_FOR_EVER, str(parent / "model"), str(ready)])
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    assert remove_abandoned(parent) == 0  # it is at work
    process.kill()
    process.wait()
    assert not (parent / "model").exists()
    assert [path.name.startswith(".staging-") for path in parent.iterdir()] == [True]
    make_export(parent / "model")
    assert [path.name for path in parent.iterdir()] == ["model"]


def test_an_export_without_a_manifest_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"files": 3}))
    with pytest.raises(StudioError, match="not a finished export"):
        read_export(tmp_path)
    assert export_folder.VERIFICATION_FILES == ("verification.json", "verification.md")
