"""A disk that keeps a log of every write and every flush, below a real file system: what dm-log-writes is, without it.

    python -m tests.storage.block_log PLACE LOG BYTES

A file system of one file, `disk`, over /dev/fuse, without any library; a loop device on that file passes on each write
as it comes, and each flush as a sync. Needs root. `cut_disks` makes of a log what a disk may hold after a power cut:
all up to the last flush, and of the writes after it any, whole or in part.
"""

import ctypes
import errno
import os
import random
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_FLUSH = (1 << 64) - 1
_RECORD = struct.Struct("<QI")
_SECTOR = 512
_FILE = 2  # the number of `disk`; 1 is the folder
_SILENT = (2, 36, 42)  # forget, interrupt, batch_forget: nobody waits for an answer
_MAX_WRITE = 1 << 17


class _Disk:
    def __init__(self, log: Path, size: int) -> None:
        self._log = log.open("ab", buffering=0)
        self._bytes = bytearray(size)

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        """Return what the kernel is told, or an errno."""
        match opcode:
            case 26:  # init: protocol 7.31, with large writes
                flags = 1 << 5 | 1 << 22
                return struct.pack("<4I2H2I2H2I24x", 7, 31, _MAX_WRITE, flags, 8, 6, _MAX_WRITE, 1, 32, 0, 0, 0)
            case 1:  # lookup
                if body.rstrip(b"\0") != b"disk":
                    return errno.ENOENT
                return struct.pack("<4Q2I", _FILE, 0, 60, 60, 0, 0) + self._attributes(_FILE)
            case 3 | 4:  # getattr, setattr
                return struct.pack("<Q2I", 60, 0, 0) + self._attributes(node)
            case 14 | 27:  # open, past the page cache; opendir
                return struct.pack("<Q2I", 1, 1 if opcode == 14 else 0, 0)
            case 15:  # read
                _, offset, size = struct.unpack_from("<2QI", body)
                return bytes(self._bytes[offset : offset + size])
            case 16:  # write
                _, offset, size = struct.unpack_from("<2QI", body)
                data = body[40 : 40 + size]
                self._bytes[offset : offset + size] = data
                self._log.write(_RECORD.pack(offset, size) + data)
                return struct.pack("<2I", size, 0)
            case 20:  # fsync
                self._log.write(_RECORD.pack(_FLUSH, 0))
                return b""
            case 17:  # statfs
                return struct.pack("<5Q4I24x", 1 << 20, 1 << 19, 1 << 19, 9, 9, 4096, 255, 4096, 0)
            case 18 | 25 | 29 | 38:  # release, flush, releasedir, destroy
                return b""
        return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        is_file = node == _FILE
        size, mode = (len(self._bytes), stat.S_IFREG | 0o600) if is_file else (0, stat.S_IFDIR | 0o700)
        return struct.pack("<3Q24x12x6I", node, size, size // 512, mode, 1, 0, 0, 0, 4096) + bytes(4)


def serve(place: Path, log: Path, size: int) -> None:
    """Mount, say so on stdout, and answer the kernel until it is unmounted."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if ctypes.CDLL(None, use_errno=True).mount(b"block-log", bytes(place), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    disk = _Disk(log, size)
    while True:
        try:
            request = os.read(device, _MAX_WRITE + 4096)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            continue
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in _SILENT:
            continue
        found = disk.answer(opcode, node, request[40:])
        code, data = (-found, b"") if isinstance(found, int) else (0, found)
        os.write(device, struct.pack("<IiQ", 16 + len(data), code, unique) + data)


def cut_disks(log: Path, size: int, positions: list[int], out: Path, seed: int) -> Iterator[int]:
    """Write to `out` what a disk may hold that lost its power at each of some positions in its log; yield those."""
    chance = random.Random(seed)
    flushed = bytearray(size)
    loose: list[tuple[int, bytes]] = []
    with log.open("rb") as file:
        for position in sorted(positions):
            while file.tell() < position:
                offset, length = _RECORD.unpack(file.read(_RECORD.size))
                if offset == _FLUSH:
                    for place, data in loose:
                        flushed[place : place + len(data)] = data
                    loose = []
                else:
                    loose.append((offset, file.read(length)))
            disk = bytearray(flushed)
            share = chance.choice((0.0, 0.5, 0.9, 1.0))
            for place, data in loose:
                for sector in range(0, len(data), _SECTOR):
                    if chance.random() < share:
                        part = data[sector : sector + _SECTOR]
                        disk[place + sector : place + sector + len(part)] = part
            out.write_bytes(disk)
            yield position


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
