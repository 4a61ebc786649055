"""Power cuts, by what POSIX promises and no more: what a disk may hold after one at any call that a writer makes.

While the writer runs, its folder is looked at before each call into the system, and what is synced is noted: of a
file its bytes, of a folder its entries. After a cut a file that has its name has what was synced of it, and of the rest
all, some, zeros or nothing; of the entries that were made, renamed or removed since their folder was synced any may be
lost, except that what happened to one name stays in its order. A sync that is not seen here makes the disk only worse.
"""

import os
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

Tell = Callable[[str], None]  # says that the user was told of something as safe
_PAGE = 4096
_CALLS = frozenset(
    {
        *("open", "open_code", "write", "writelines", "flush", "close", "fsync", "truncate", "ftruncate", "chmod"),
        *("rename", "replace", "link", "symlink", "mkdir", "rmdir", "unlink", "remove"),
        *("sendfile", "copy_file_range", "scandir", "listdir", "stat", "lstat"),
    }
)


@dataclass(frozen=True)
class Change:
    """A change of a folder's entries: `name` is now `inode`, or nothing; `was` is the name that it had before."""

    name: str
    inode: int | None
    was: str = ""


@dataclass
class _Disk:
    """What of the files is on the disk, by numbers that no other file ever gets; `seen` is what a reader found last."""

    root: int = 0
    synced: dict[int, bytes] = field(default_factory=dict)
    seen: dict[int, bytes] = field(default_factory=dict)
    entries: dict[int, dict[str, int]] = field(default_factory=dict)  # of folders, as synced
    shown: dict[int, dict[str, int]] = field(default_factory=dict)  # of folders, as a reader found them
    changes: dict[int, list[Change]] = field(default_factory=dict)  # of folders, since they were synced
    told: list[str] = field(default_factory=list)

    def copy(self) -> "_Disk":
        changes = {folder: list(made) for folder, made in self.changes.items()}
        return _Disk(
            self.root,
            dict(self.synced),
            dict(self.seen),
            dict(self.entries),
            dict(self.shown),
            changes,
            list(self.told),
        )


class PowerCuts:
    """The disks that a cut may leave at each call of `write(tell)`, which works in `root`, and in one thread."""

    def __init__(self, root: Path, write: Callable[[Tell], None]) -> None:
        self._root = root
        self._numbers: dict[int, int] = {}  # of the system's inodes; those are used again
        self._next = 0
        self._stamps: dict[int, tuple[int, int]] = {}
        self._links: dict[int, Path] = {}
        self._now = _Disk()
        self._thread = threading.get_ident()
        self._looking = False
        self._whole = 0.0  # share of the files that reach the disk without a sync
        self.disks: list[_Disk] = []
        self.changes: list[Change] = []
        self.syncs = 0
        self._look()
        self._now.synced, self._now.entries = dict(self._now.seen), dict(self._now.shown)
        self._now.changes, self.changes, self.disks = {}, [], [self._now.copy()]
        self._record(write)

    def after(self, cuts: int | None, seed: int, ways: int = 3) -> Iterator[tuple[str, ...]]:
        """Leave in `root` what a cut may, at `cuts` of the calls or at all, in some ways each; yield what was told."""
        chance = random.Random(seed)
        last = len(self.disks) - 1
        points = range(last + 1) if cuts is None else sorted({last - round(last * n / cuts) for n in range(cuts)})
        for point in points:
            for way in range(ways):
                disk = self.disks[point]
                shutil.rmtree(self._root, ignore_errors=True)
                self._whole = chance.choice((0.0, 0.5, 0.9))
                self._leave(disk, disk.root, self._root, (0.0, 1.0)[way] if way < 2 else 0.5, chance)
                yield tuple(disk.told)

    def _record(self, write: Callable[[Tell], None]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            sync = os.fsync

            def synced(file: Any) -> None:
                sync(file)
                self.syncs += 1
                self._sync(os.fstat(file if isinstance(file, int) else file.fileno()).st_ino)

            patch.setattr(os, "fsync", synced)
            before = sys.getprofile()
            sys.setprofile(self._before_call)
            try:
                write(self._tell)
            finally:
                sys.setprofile(before)
        self._look()

    def _before_call(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__name__", "") in _CALLS and not self._looking:
            self._look()

    def _tell(self, fact: str) -> None:
        self._look()
        self._now.told.append(fact)
        self.disks.append(self._now.copy())

    def _sync(self, inode: int) -> None:
        self._look()
        number = self._numbers.get(inode)
        if number in self._now.shown:
            self._now.entries[number] = dict(self._now.shown[number])
            self._now.changes.pop(number, None)
        elif number is not None:
            self._now.synced[number] = self._now.seen[number]
        self.disks.append(self._now.copy())

    def _look(self) -> None:
        """Note what a reader finds now; a disk more where it is not what was found before."""
        self._looking = True
        found: dict[int, Path] = {}
        shown: dict[int, dict[str, int]] = {}
        changed = False
        folders = [self._root]
        while folders:
            folder = folders.pop()
            entries = {}
            with os.scandir(folder) as items:
                for item in items:
                    stat = item.stat(follow_symlinks=False)
                    number = self._number(stat.st_ino)
                    entries[item.name] = number
                    found[stat.st_ino] = Path(item.path)
                    if item.is_symlink():
                        self._links[number] = Path(item.path).readlink()
                    elif item.is_dir(follow_symlinks=False):
                        folders.append(Path(item.path))
                    elif self._stamps.get(number) != (stamp := (stat.st_size, stat.st_mtime_ns)):
                        self._stamps[number] = stamp
                        self._now.seen[number] = Path(item.path).read_bytes()
                        changed = True
            here = folder.stat().st_ino
            found[here] = folder
            shown[self._number(here)] = entries
        self._now.root = self._number(self._root.stat().st_ino)
        changed |= self._note_entries(shown)
        self._numbers = {inode: number for inode, number in self._numbers.items() if inode in found}
        if changed:
            self.disks.append(self._now.copy())
        self._looking = False

    def _number(self, inode: int) -> int:
        if inode not in self._numbers:
            self._next += 1
            self._numbers[inode] = self._next
        return self._numbers[inode]

    def _note_entries(self, shown: Mapping[int, dict[str, int]]) -> bool:
        made = False
        for folder, entries in shown.items():
            for change in _changes(self._now.shown.get(folder, {}), entries):
                self._now.changes.setdefault(folder, []).append(change)
                self.changes.append(change)
                made = True
            self._now.shown[folder] = entries
        return made

    def _leave(self, disk: _Disk, folder: int, place: Path, share: float, chance: random.Random) -> None:
        place.mkdir(exist_ok=True)
        for name, number in _entries(disk, folder, share, chance).items():
            if number in self._links:
                (place / name).symlink_to(self._links[number])
            elif number in disk.shown:
                self._leave(disk, number, place / name, share, chance)
            else:
                is_whole = chance.random() < self._whole
                synced, seen = disk.synced.get(number), disk.seen[number]
                (place / name).write_bytes(seen if is_whole else _content(synced, seen, chance))


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[Change]:
    """Return what happened to a folder between two looks; a rename is one change."""
    old = {number: name for name, number in before.items()}
    made = []
    moved = set()
    for name, number in after.items():
        if before.get(name) != number:
            was = old.get(number, "")
            moved.add(was)
            made.append(Change(name, number, was if after.get(was) != number else ""))
    return made + [Change(name, None) for name in before if name not in after and name not in moved]


def _entries(disk: _Disk, folder: int, share: float, chance: random.Random) -> dict[str, int]:
    """Return what a folder holds after the cut: as synced, and a share of what happened since."""
    entries = dict(disk.entries.get(folder, {}))
    lost: set[str] = set()
    for change in disk.changes.get(folder, ()):
        if chance.random() >= share or lost & {change.name, change.was}:
            lost |= {change.name, change.was} - {""}
            continue
        entries.pop(change.was or change.name, None)
        if change.inode is not None:
            entries[change.name] = change.inode
    return entries


def _content(synced: bytes | None, seen: bytes, chance: random.Random) -> bytes:
    """Return what a file holds after the cut: what was synced, and of the rest all, some, zeros or nothing."""
    if synced == seen:
        return seen
    safe = synced or b""
    rest = seen[len(safe) :] if seen.startswith(safe) else b""
    if rest:
        part = chance.randrange(len(rest))
        return safe + chance.choice((b"", rest, rest[:part], rest[:part] + bytes(len(rest) - part), bytes(len(rest))))
    pages = range(0, max(len(safe), len(seen)), _PAGE)
    mixed = b"".join(chance.choice((safe, seen))[page : page + _PAGE] for page in pages)
    return chance.choice((safe, seen, mixed))
