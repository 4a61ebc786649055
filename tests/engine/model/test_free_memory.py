"""The memory that a process may still take, where a container or a batch system limits it."""

from pathlib import Path

import psutil

from qlora_studio.engine.model.free_memory import free_ram, left_by

_NAMES = ("memory.max", "memory.current", "inactive_file")


def group(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("900\n")
    (folder / "memory.stat").write_text("anon 500\nactive_file 100\ninactive_file 300\n")
    return folder


def test_a_limit_leaves_what_is_not_used_and_files_that_were_read(tmp_path: Path) -> None:
    assert left_by(group(tmp_path, "1000"), *_NAMES) == [400]


def test_without_a_limit_the_system_alone_decides(tmp_path: Path) -> None:
    assert left_by(group(tmp_path, "max"), *_NAMES) == left_by(tmp_path / "none", *_NAMES) == []


def test_no_more_is_free_than_the_computer_has() -> None:
    assert 0 < free_ram() <= psutil.virtual_memory().total
