"""Feeds damaged files to every reader: `python -m tests.fuzz.campaign [--cases N] [--reader NAME] [--first NUMBER]`.

A case follows from the reader's name and its number. Cases run in a fork of this process, one after another, so that
one which takes the process down is found as well, and the next goes on behind it. What may come out is a value or one
of the reader's own errors, within its time of the processor and its memory.
"""

import argparse
import base64
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from tests.fuzz.places import PLACES
from tests.fuzz.readers import Reader, readers

_ADDRESS_SPACE = 2 << 30  # beyond what the reader's process had: a bomb must not hurt the machine
_GRACE = 4  # times the reader's seconds after which the process is ended, for a machine that is busy
_BLOCKED_SECONDS = 60
_CASES_A_FORK = 20_000  # what leaks is given back
_SHOWN = 1500
_MINIMIZING_SECONDS = 1.0


@dataclass
class Finding:
    """What a reader did that it must not, on which case, and the smallest input that was found to do the same."""

    reader: str
    what: str
    case: str
    count: int = 1
    detail: str = ""
    data: bytes = b""

    def words(self) -> str:
        """Return it so that it can be pasted into a test."""
        packed = base64.b64encode(zlib.compress(self.data, 9)).decode()
        shown = f'zlib.decompress(base64.b64decode("{packed}"))' if len(packed) <= _SHOWN else f"{len(self.data)} bytes"
        return f"{self.reader}: {self.what} ({self.count} times, first in {self.case})\n{self.detail}\n{shown}"


@dataclass
class Result:
    """How a reader did."""

    reader: str
    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count a finding, with those like it."""
        known = self.findings.setdefault(finding.what, finding)
        known.count += known is not finding


def attacked(reader: Reader, cases: range, how: str = "case") -> Result:
    """Return what a reader does with these cases, these bits of its sound files turned, or these places taken."""
    result = Result(reader.name)
    began = time.monotonic()
    first = cases.start
    while first < cases.stop:
        first = _forked(reader, range(first, min(cases.stop, first + _CASES_A_FORK)), how, result)
    result.seconds = time.monotonic() - began
    return result


def one_case(reader: Reader, number: int, how: str) -> bytes | None:
    """Return the bytes of a case; None behind the last of its kind."""
    if how == "case":
        return reader.case(number)
    if how == "flip":
        return reader.flip(number)
    return reader.repaired(reader.seeds()[0]) if reader.is_file and number < len(PLACES) else None


def _forked(reader: Reader, cases: range, how: str, result: Result) -> int:
    """Run cases in a child until it is done or dead; return where to go on."""
    place = mmap.mmap(-1, 16)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        code = 1
        try:
            with os.fdopen(write, "w") as out:
                _Worker(reader, how, place, out).run(cases)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as told:
        for line in told:
            entry = json.loads(line)
            if "slowest" in entry:
                result.slowest = max(result.slowest, entry["slowest"])
            else:
                result.add(Finding(**{**entry, "data": base64.b64decode(entry["data"])}))
    _, status = os.waitpid(pid, 0)
    at, done = map(int, struct.unpack("<qq", place[:]))
    result.cases += done
    if status == 0:
        return at
    if not reader.is_bounded:
        data = one_case(reader, at, how) or b""
        result.add(Finding(reader.name, _death(status, reader), _name(at, how), data=data))
    return at + 1


def _death(status: int, reader: Reader) -> str:
    if not os.WIFSIGNALED(status):
        return f"ended its process with exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return f"does not end in {reader.seconds * _GRACE:.0f} s of the processor"
    if number == signal.SIGALRM:
        return f"waits for more than {_BLOCKED_SECONDS} s"
    return f"died of {signal.Signals(number).name}"


def _name(number: int, how: str) -> str:
    return f"{how} {list(PLACES)[number] if how == 'place' else number}"


class _Worker:
    """Runs in the fork."""

    def __init__(self, reader: Reader, how: str, place: mmap.mmap, out: IO[str]) -> None:
        self._reader, self._how, self._place, self._out = reader, how, place, out
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=None if self._reader.on_disk else _fast_folder()))
        self._known: set[str] = set()
        self._slowest = 0.0

    def run(self, cases: range) -> None:
        """Run them, and stop early where memory grew, so that the next fork begins without it."""
        os.environ["QLORA_STUDIO_HOME"] = str(self._folder)
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  as long as the process
        self._reader.prepare(self._folder)
        _limit_address_space()
        held = _peak()
        done = 0
        try:
            for number in cases:
                self._place[:] = struct.pack("<qq", number, done)
                data = one_case(self._reader, number, self._how)
                if data is None:
                    number = sys.maxsize - 1
                    break
                self._case(number, data)
                done += 1
                if _peak() - held > self._reader.megabytes << 20:
                    self._tell(
                        f"takes more than {self._reader.megabytes} MB", number, f"{(_peak() - held) >> 20} MB", data
                    )
                    break
            self._place[:] = struct.pack("<qq", number + 1, done)
            self._out.write(json.dumps({"slowest": self._slowest}) + "\n")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _case(self, number: int, data: bytes) -> None:
        what, detail, seconds = self._tried(data, number)
        self._slowest = max(self._slowest, seconds)
        if not what and seconds > self._reader.seconds and not self._reader.is_bounded:
            what, detail = f"takes more than {self._reader.seconds:.0f} s", f"{seconds:.1f} s"
        if what:
            if what not in self._known and not what.startswith("takes") and self._how != "place":
                data = _smallest(data, lambda other: self._tried(other, number)[0] == what)
            what = f"{_name(number, self._how)}: {what}" if self._how == "place" else what
            self._tell(what, number, detail, data)
            self._known.add(what)

    def _tried(self, data: bytes, number: int) -> tuple[str, str, float]:
        """Return what went wrong, or nothing, with more about it, and the seconds of the processor."""
        file = self._folder / self._reader.file
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        file.unlink(missing_ok=True)  # a file cut to nothing and written again is written to the disk at once
        file.write_bytes(data)
        if self._how == "place":
            [*PLACES.values()][number](file)
        signal.setitimer(signal.ITIMER_PROF, self._reader.seconds * _GRACE)
        signal.setitimer(signal.ITIMER_REAL, _BLOCKED_SECONDS)
        began = time.process_time()
        what = detail = ""
        try:
            self._reader.read(self._folder)
        except self._reader.errors:
            pass
        except BaseException as error:  # noqa: BLE001  everything else is what is looked for
            what, detail = _where(error), "".join(traceback.format_exception_only(error))[:300].strip()
        seconds = time.process_time() - began
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return what, detail, seconds

    def _tell(self, what: str, number: int, detail: str, data: bytes) -> None:
        finding = Finding(self._reader.name, what, _name(number, self._how), 1, detail, data)
        self._out.write(json.dumps({**asdict(finding), "data": base64.b64encode(data).decode()}) + "\n")
        self._out.flush()


def _where(error: BaseException) -> str:
    """Return the kind of an error, and the place of our own code that it came out of."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "qlora_studio" in frame.filename]
    frames = frames or traceback.extract_tb(error.__traceback__)[-1:]
    place = frames[-1]
    return f"{type(error).__name__} out of {Path(place.filename).name}:{place.name}"


def _smallest(data: bytes, does_the_same: Callable[[bytes], bool]) -> bytes:
    """Return as little of the bytes as does the same, as far as some seconds reach."""
    until = time.monotonic() + _MINIMIZING_SECONDS
    size = len(data) // 2
    while size and time.monotonic() < until:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if does_the_same(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _limit_address_space() -> None:
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    """Run what the command line says; return 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="of each reader")
    parser.add_argument(
        "--how", choices=("case", "flip", "place"), default="case", help="damage, bits turned, places taken"
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[])
    parser.add_argument("--out", type=Path, help="write a table of the results there")
    arguments = parser.parse_args()
    chosen = [reader for reader in readers() if not arguments.reader or reader.name in arguments.reader]
    table = {}
    for reader in chosen:
        reader.warm_up()
        result = attacked(reader, range(arguments.first, arguments.first + arguments.cases), arguments.how)
        words = [finding.words() for finding in result.findings.values()]
        print(
            f"{reader.name:28} {result.cases:9,} cases {result.seconds:7.1f} s  slowest {result.slowest:5.2f} s",
            flush=True,
        )
        print("".join(f"{text}\n" for text in words), end="", flush=True)
        figures = {"cases": result.cases, "seconds": round(result.seconds, 1), "slowest": round(result.slowest, 2)}
        table[reader.name] = {**figures, "findings": words}
        if arguments.out:
            arguments.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(row["findings"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
