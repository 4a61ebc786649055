"""A run from elsewhere is taken in whole and gives no orders; what could do harm is refused, and nothing is left."""

import os
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.run_care.run_import import Copying, import_run
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder

TOML = to_toml(RunConfig(name="theirs")).encode()
FILES = {
    "run.toml": TOML,
    "events.jsonl": b"\n",
    "adapter/a.safetensors": b"weights",
    "checkpoints/checkpoint-1/manifest.json": b"{}",
    "job.json": b"{}",
    "run.lock": b"",
    "commands.jsonl": b"{}",
    "jobs/1-upload/job.json": b"{}",
    "mine.py": b"print()",
}
TAKEN = {"run.toml", "events.jsonl", "adapter/a.safetensors", "checkpoints/checkpoint-1/manifest.json"}


@pytest.fixture
def runs(studio_home: Path) -> Path:
    return studio_home / "runs"


def files_in(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def packed(place: Path, files: dict[str, bytes], root: str = "theirs/") -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in files.items():
            pack.writestr(root + name, data)
    return place


def unpacked(place: Path) -> Path:
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


@pytest.mark.parametrize("way", ["folder", "zip", "zip without a folder"])
def test_a_run_is_taken_in_without_locks_jobs_and_commands_and_is_not_trusted(
    way: str, runs: Path, tmp_path: Path
) -> None:
    source = unpacked(tmp_path / "theirs") if way == "folder" else tmp_path / "theirs.zip"
    if way != "folder":
        packed(source, FILES, root="theirs/" if way == "zip" else "")
    for name in ("theirs", "theirs-2"):
        run = import_run(source, runs)
        assert run.path == runs / name
        assert files_in(run.path) == {name: FILES[name] for name in TAKEN}
        assert trust.objection(run.path) is not None


def test_a_run_of_ones_own_that_comes_back_under_its_name_is_trusted_as_before(runs: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "mine")
    folder.path.mkdir()
    folder.write_config(RunConfig(name="mine"))
    assert trust.objection(import_run(folder.path, runs).path) is None


@pytest.mark.parametrize(
    "name",
    [
        "adapter/../../../out",
        "adapter//out",
        "adapter/NUL",
        "adapter/com1.txt",
        "adapter/a\\..\\b",
        "adapter/C:x",
        "adapter/end.",
        "adapter/a\nb",
        "adapter/A.safetensors",
        "adapter/" + "d/" * 20 + "x",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused_and_nothing_is_left(name: str, runs: Path, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    source = packed(tmp_path / "x.zip", FILES | {name: b"harm"})
    with pytest.raises(StudioError, match="is not taken in"):
        import_run(source, runs)
    assert files_in(tmp_path).keys() - before.keys() == {"x.zip"} and not list(runs.glob("*"))


def test_a_bomb_is_refused_before_it_is_unpacked(runs: Path, tmp_path: Path) -> None:
    source = packed(tmp_path / "x.zip", {"run.toml": TOML, "events.jsonl": bytes(70 << 20)})
    with pytest.raises(StudioError, match="far more than its size"):
        import_run(source, runs)
    assert not runs.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are another matter there")
@pytest.mark.parametrize("what", ["link", "link to a folder", "pipe"])
def test_what_is_no_regular_file_is_refused(what: str, runs: Path, tmp_path: Path) -> None:
    source = unpacked(tmp_path / "theirs")
    (tmp_path / "secret").write_text("mine")
    place = source / "adapter" / "x"
    if what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(tmp_path / "secret" if what == "link" else tmp_path)
    with pytest.raises(StudioError, match="x is a link, or no regular file"):
        import_run(source, runs)
    info = zipfile.ZipInfo("theirs/adapter/x")
    info.external_attr = ((stat.S_IFIFO if what == "pipe" else stat.S_IFLNK) | 0o777) << 16
    with zipfile.ZipFile(packed(tmp_path / "x.zip", FILES), "a") as pack:
        pack.writestr(info, "/etc/passwd")
    with pytest.raises(StudioError, match="is a link, or no regular file"):
        import_run(tmp_path / "x.zip", runs)
    assert not list(runs.glob("*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "none", "no run", "two", "no toml", "gone"])
def test_what_cannot_be_read_is_said_in_words_and_nothing_is_left(damage: str, runs: Path, tmp_path: Path) -> None:
    source = packed(tmp_path / "x.zip", FILES)
    data = source.read_bytes()
    match damage:
        case "cut":
            source.write_bytes(data[: len(data) // 2])
        case "flipped":
            at = data.index(b"theirs/adapter/a.safetensors") + 29
            source.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        case "none":
            source.write_bytes(b"")
        case "no run":
            packed(source, {"a.txt": b""})
        case "two":
            packed(source, {"a/run.toml": TOML, "b/run.toml": TOML}, root="")
        case "no toml":
            packed(source, {"run.toml": b"x = ["})
        case _:
            source.unlink()
    with pytest.raises(StudioError):
        import_run(source, runs)
    assert not list(runs.glob("*")) and not list(runs.glob(".*"))


@pytest.mark.parametrize("packs", [False, True], ids=["folder", "zip"])
def test_a_run_that_another_window_takes_in_meanwhile_is_there_twice_each_whole_and_by_a_name_of_its_own(
    packs: bool, runs: Path, tmp_path: Path, run_python: Callable[..., object]
) -> None:
    source = packed(tmp_path / "theirs.zip", FILES) if packs else unpacked(tmp_path / "theirs")
    program = "import sys; from qlora_studio.__main__ import main; sys.exit(main())"

    class Meanwhile(Copying):
        def add(self, size: int) -> None:
            if not self.done:
                run_python(program, "import", str(source))
            super().add(size)

    assert import_run(source, runs, Meanwhile()).path == runs / "theirs-2"
    taken = {name: FILES[name] for name in TAKEN}
    assert {place.name: files_in(place) for place in runs.iterdir()} == {"theirs": taken, "theirs-2": taken}


def test_a_copy_tells_how_far_it_is_and_one_that_is_stopped_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    source, seen = packed(tmp_path / "theirs.zip", FILES), list[int]()

    class Watched(Copying):
        def add(self, size: int) -> None:
            super().add(size)
            seen.append(self.done)
            self.stopped = self.stopped or self is stopped

    whole, stopped = Watched(), Watched()
    import_run(source, runs, whole)
    assert seen == sorted(seen) and seen[-1] == whole.total == sum(len(FILES[name]) for name in TAKEN)
    with pytest.raises(StudioError, match="it was stopped") as error:
        import_run(source, runs, stopped)
    assert error.value.kind is FailureKind.INTERRUPTED
    assert [path.name for path in runs.iterdir()] == ["theirs"]
