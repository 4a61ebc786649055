"""What is to be written is summed up drive by drive, and refused where it does not fit."""

import os
import shutil
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.storage.drive_space import Writing, drives, require_drives


def test_what_goes_to_one_drive_is_summed_up_even_where_its_folders_do_not_exist(tmp_path: Path) -> None:
    (drive,) = drives([Writing(tmp_path / "runs", "checkpoints", 300), Writing(tmp_path / "a" / "b", "cache", 200)])
    assert drive.needed == 500
    assert drive.free == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1 << 28)
    assert drive.fits
    assert os.path.ismount(drive.name)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second filesystem")
def test_two_drives_are_told_apart_and_the_one_without_room_comes_first(tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the temporary folder is in memory, too")
    first, second = drives([Writing(tmp_path, "a little", 1), Writing(Path("/dev/shm/runs"), "far too much", 1 << 60)])
    assert (first.name, first.fits) == ("/dev/shm", False)
    assert second.fits


def test_a_drive_without_room_is_refused_with_what_to_free(tmp_path: Path) -> None:
    require_drives([Writing(tmp_path, "checkpoints", 1000)], "This run")
    with pytest.raises(StudioError) as caught:
        require_drives([Writing(tmp_path, "checkpoints", 1 << 60)], "This run")
    assert caught.value.kind == "disk_full"
    assert "This run needs" in caught.value.message
    assert "checkpoints" in caught.value.message
    assert caught.value.advice.startswith("Free ")
