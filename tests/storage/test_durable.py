"""A manifest says what it was written with, or is refused; a folder is there whole, or not at all."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.fingerprint import FileEntry, Fingerprint, Fingerprints
from qlora_studio.storage.durable import (
    MANIFEST,
    MANIFEST_VERSION,
    DamagedManifest,
    Manifest,
    NewerManifest,
    disagreements,
    read_manifest,
    staged_folder,
    write_manifest,
)
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, CheckpointManifest, DamagedCheckpoint, verify
from qlora_studio.storage.runs.export_folder import ExportManifest, damages, exports_of, read_export

_OLD = Path(__file__).parents[1] / "compatibility" / "v0_1"
_OLD_FOLDERS = {
    path.parent.relative_to(_OLD).as_posix(): ExportManifest if "exports" in path.parts else CheckpointManifest
    for path in sorted(_OLD.rglob(MANIFEST))
}
_HASH = hashlib.sha256(b"old weights").hexdigest()


def sealed(facts: dict[str, Any]) -> bytes:
    """A manifest with its checksum, by the rule as it is written down."""
    told = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps({**facts, "checksum": hashlib.sha256(told.encode()).hexdigest()}).encode()


def of_version(version: object, **facts: Any) -> bytes:
    files = {"weights": {"size": 11, "sha256": _HASH}}
    return sealed({"version": version, "step": 9, "files": files, **facts})


def unsealed(**facts: Any) -> bytes:
    return json.dumps({"step": 9, "files": {}, **facts}).encode()


def _write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"old weights")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with every fact that one can have."""
    base = Fingerprint(files={"config.json": FileEntry(size=7, sha256=_HASH)})
    data = Fingerprint(files={"the rows": "0123"})
    return CheckpointFolder(tmp_path).save(4, _write, Fingerprints(base=base, data=data), 0.00001).path


def test_no_flipped_bit_of_a_manifest_is_ever_believed(checkpoint: Path) -> None:
    path = checkpoint / MANIFEST
    written, whole = read_manifest(checkpoint, CheckpointManifest), path.read_bytes()
    believed = []
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = read_manifest(checkpoint, CheckpointManifest)
        except DamagedManifest:
            continue
        assert found == written, f"bit {bit} changed what the manifest says"
        believed.append(flipped[bit // 8 : bit // 8 + 1])
    assert believed in ([], [b"E"])  # 1E-05 is 1e-05


def test_no_manifest_that_was_cut_short_is_believed(checkpoint: Path) -> None:
    path = checkpoint / MANIFEST
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedManifest):
            read_manifest(checkpoint, CheckpointManifest)


def test_the_checksum_is_over_everything_else_as_json_with_sorted_keys(checkpoint: Path) -> None:
    facts = json.loads((checkpoint / MANIFEST).read_bytes())
    checksum = facts.pop("checksum")
    assert json.loads(sealed(facts))["checksum"] == checksum
    assert facts["version"] == MANIFEST_VERSION
    assert set(facts) == {"version", "step", "evaluation_loss", "base", "data", "files"}


def test_a_manifest_says_nothing_that_it_was_not_given(tmp_path: Path) -> None:
    _write(tmp_path)
    write_manifest(tmp_path, ExportManifest(format="safetensors", tensors_merged=3))
    facts = json.loads((tmp_path / MANIFEST).read_bytes())
    assert set(facts) == {"version", "format", "tensors_merged", "files", "checksum"}
    assert read_manifest(tmp_path, ExportManifest).checkpoint == "final"


@pytest.mark.parametrize("folder", _OLD_FOLDERS)
def test_manifests_without_version_and_checksum_are_as_good_as_they_were(folder: str) -> None:
    facts = json.loads((_OLD / folder / MANIFEST).read_bytes())
    manifest = read_manifest(_OLD / folder, _OLD_FOLDERS[folder])
    assert manifest.version == 0
    assert manifest.model_dump(mode="json", exclude_unset=True, exclude={"version"}) == facts
    assert not list(disagreements(_OLD / folder, manifest))


def test_a_loss_that_was_no_number_in_an_old_manifest_was_not_measured(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_bytes(unsealed(step=4, evaluation_loss=float("nan")))
    assert verify(checkpoint).evaluation_loss is None


def _nested(depth: int) -> bytes:
    return b'{"step": 9, "files": {}, "x": ' + b"[" * depth + b"]" * depth + b"}"


_ENTRY = {"size": 11, "sha256": _HASH}
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not utf-8": unsealed() + b"\xff",
    "utf-16": unsealed().decode().encode("utf-16"),
    "with a mark of byte order": b"\xef\xbb\xbf" + unsealed(),
    "a list": b"[]",
    "a number": b"3",
    "deeply nested": _nested(100_000),
    "huge": unsealed() + b" " * (16 << 20),
    "a number of many digits": b'{"files": {}, "step": ' + b"9" * 5000 + b"}",
    "without files": sealed({"version": 1, "step": 9}),
    "without files, of version 0": b'{"step": 9}',
    "without a step": unsealed().replace(b"step", b"stop"),
    "files in a list": of_version(1, files=[]),
    "an entry that is a number": of_version(1, files={"weights": 3}),
    "an entry without a size": of_version(1, files={"weights": {"sha256": _HASH}}),
    "a size in a text": of_version(1, files={"weights": {**_ENTRY, "size": "11"}}),
    "a size that is negative": of_version(1, files={"weights": {**_ENTRY, "size": -11}}),
    "a size that is no number": unsealed(files={"weights": {**_ENTRY, "size": float("nan")}}),
    "a size without end": b'{"step": 9, "files": {"weights": {"size": 1e999, "sha256": ""}}}',
    "a hash that is none": of_version(1, files={"weights": {**_ENTRY, "sha256": _HASH[1:]}}),
    "a step in a text": of_version(1, step="9"),
    "a step that is negative": of_version(1, step=-1),
    "a step that is true": of_version(1, step=True),
    "a loss in a text": of_version(1, evaluation_loss="0.5"),
    "a loss without end": b'{"step": 9, "files": {}, "evaluation_loss": 1e999}',
    "a base that is a number": of_version(1, base=3),
    "a name that cannot be written": b'{"step": 9, "files": {"\\ud800": {"size": 1, "sha256": "%s"}}}' % _HASH.encode(),
    "a version in a text": of_version("1"),
    "a version that is true": of_version(True),
    "version 0 by name": of_version(0),
    "without its checksum": json.dumps({"version": 1, "step": 9, "files": {}}).encode(),
    "without its version": sealed({"step": 9, "files": {}}),
    "a checksum that is a number": b'{"version": 1, "step": 9, "files": {}, "checksum": 3}',
    "a later version whose checksum does not agree": of_version(2).replace(b'"step": 9', b'"step": 8'),
    "a file that is gone": of_version(1, files={"gone": _ENTRY}),
}
LEADS_OUT = ["/etc/passwd", "../weights", "a/../../weights", "..", ".", "", "C:/x", "C:x", "\\\\host\\x", "a\\b", "a\0"]
BROKEN |= {f"a file named {name!r}": of_version(1, files={name: _ENTRY}) for name in LEADS_OUT}
BROKEN |= {f"an old file named {name!r}": unsealed(files={name: _ENTRY}) for name in LEADS_OUT}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """Three checkpoints, and a newer one for a test to break."""
    folder = CheckpointFolder(tmp_path)
    for step, loss in ((1, 0.25), (2, 0.5), (3, None), (9, 0.125)):
        folder.save(step, _write, evaluation_loss=loss)
    return folder


@pytest.mark.parametrize("how", BROKEN)
def test_a_checkpoint_with_a_broken_manifest_never_stands_before_a_whole_one(
    folder: CheckpointFolder, how: str
) -> None:
    broken = folder.path / "checkpoint-9"
    (broken / MANIFEST).write_bytes(BROKEN[how])
    with pytest.raises(DamagedCheckpoint, match="checkpoint-9"):
        verify(broken)
    assert [item.step for item in folder.safe()] == [3, 2, 1]
    best = folder.best()
    assert best is not None
    assert best.step == 1
    folder.rotate(2)
    assert [item.step for item in folder.safe()] == [3, 2, 1]
    told: list[str] = []
    newest = folder.newest_safe(lambda path, why: told.append(path.name))
    assert newest is not None
    assert newest.step == 3
    assert len(told) == 1
    assert told[0].startswith("checkpoint-9.damaged-")


def test_a_checkpoint_whose_manifest_is_a_folder_or_missing_is_damaged(folder: CheckpointFolder) -> None:
    manifest = folder.path / "checkpoint-9" / MANIFEST
    manifest.unlink()
    with pytest.raises(DamagedCheckpoint):
        verify(manifest.parent)
    manifest.mkdir()
    with pytest.raises(DamagedCheckpoint):
        verify(manifest.parent)


def _link_the_file(folder: Path, elsewhere: Path) -> str:
    (folder / "weights").rename(elsewhere / "weights")
    (folder / "weights").symlink_to(elsewhere / "weights")
    return "weights"


def _link_the_folder(folder: Path, elsewhere: Path) -> str:
    (folder / "weights").rename(elsewhere / "weights")
    (folder / "sub").symlink_to(elsewhere)
    return "sub/weights"


@pytest.mark.parametrize("link", [_link_the_file, _link_the_folder])
def test_no_link_is_followed_out_of_a_folder(
    folder: CheckpointFolder, link: Callable[[Path, Path], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = folder.path / "checkpoint-9"
    name = link(path, tmp_path_factory.mktemp("elsewhere"))
    (path / MANIFEST).write_bytes(of_version(1, files={name: _ENTRY}, format="safetensors"))
    with pytest.raises(DamagedCheckpoint, match=f"{name} is missing"):
        verify(path)
    assert damages(path) == [f"{name} is missing"]


def test_a_folder_that_is_a_link_itself_is_followed(folder: CheckpointFolder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder.path)
    assert verify(tmp_path / "link" / "checkpoint-9").step == 9


def test_a_checkpoint_of_a_later_version_is_refused_in_words_and_stays(folder: CheckpointFolder) -> None:
    newer = folder.path / "checkpoint-9"
    (newer / MANIFEST).write_bytes(of_version(MANIFEST_VERSION + 1, files={"other": {"kind": "unknown here"}}))
    with pytest.raises(NewerManifest, match="written by a newer version: update QLoRA Studio") as caught:
        folder.newest_safe(lambda path, why: pytest.fail("it was set aside"))
    assert caught.value.kind == "newer_version"
    assert [item.step for item in folder.safe()] == [3, 2, 1]
    assert folder.best() is not None
    assert newer.is_dir()


def test_rotation_counts_and_removes_no_checkpoint_of_a_later_version(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2, 3, 4):
        folder.save(step, _write)
    for step in (1, 3):
        (tmp_path / f"checkpoint-{step}" / MANIFEST).write_bytes(of_version(7))
    folder.rotate(2)
    assert [path.name for path in folder.all()] == [f"checkpoint-{step}" for step in (4, 3, 2, 1)]
    folder.save(5, _write)
    folder.rotate(2)
    assert [path.name for path in folder.all()] == [f"checkpoint-{step}" for step in (5, 4, 3, 1)]


def test_an_export_of_a_later_version_is_refused_in_words_and_not_listed(tmp_path: Path) -> None:
    export = tmp_path / "safetensors"
    export.mkdir()
    (export / MANIFEST).write_bytes(of_version(2))
    with pytest.raises(StudioError, match="written by a newer version"):
        read_export(export)
    assert exports_of(tmp_path) == []


@pytest.mark.parametrize("name", LEADS_OUT)
def test_an_export_never_names_a_file_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / MANIFEST).write_bytes(of_version(1, files={name: _ENTRY}, format="safetensors"))
    with pytest.raises(StudioError, match="not a finished export"):
        damages(tmp_path)


def test_a_manifest_is_not_among_the_files_that_it_lists(tmp_path: Path) -> None:
    _write(tmp_path)
    for _ in range(2):
        write_manifest(tmp_path, Manifest())
        assert list(read_manifest(tmp_path, Manifest).files) == ["weights"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_staged_folder_that_fails_leaves_what_stood_there(place: Path) -> None:
    final = place / "adapter"
    with staged_folder(final, replace=True) as staged:
        _write(staged.path)
    with pytest.raises(RuntimeError), staged_folder(final, replace=True) as staged:
        (staged.path / "weights").write_bytes(b"half")
        raise RuntimeError
    assert not list(disagreements(final, read_manifest(final, Manifest)))
    assert names(place) == ["adapter"]


def test_a_staged_folder_replaces_all_of_what_stood_there(place: Path) -> None:
    final = place / "adapter"
    final.mkdir()
    (final / "of before").touch()
    with staged_folder(final, replace=True) as staged:
        _write(staged.path)
    assert names(final) == [MANIFEST, "weights"]
    assert names(place) == ["adapter"]


def test_a_staged_folder_takes_no_place_that_was_taken_meanwhile(place: Path) -> None:
    final = place / "model"
    with pytest.raises(FileExistsError), staged_folder(final) as staged:
        _write(staged.path)
        final.symlink_to(place / "nowhere")
    assert names(place) == ["model"]
    assert final.is_symlink()


def test_a_hash_that_a_writer_took_on_its_way_is_not_taken_again(place: Path) -> None:
    with staged_folder(place / "model") as staged:
        _write(staged.path)
        staged.hashes["weights"] = "0" * 64
    assert read_manifest(place / "model", Manifest).files["weights"].sha256 == "0" * 64


def test_what_killed_processes_staged_goes_and_what_living_ones_stage_stays(place: Path) -> None:
    alive = place / f".staging-{os.getppid()}-other"
    dead = place / ".staging-999999999-other"
    for path in (alive, dead):
        path.mkdir()
    with staged_folder(place / "model") as staged:
        _write(staged.path)
    assert names(place) == [alive.name, "model"]
