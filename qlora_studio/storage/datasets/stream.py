"""The bytes of a dataset file in blocks: decompressed, transcoded to UTF-8, with progress and cancel."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.encoding import TextEncoding
from qlora_studio.storage.datasets.files import DatasetFile, cannot_read
from qlora_studio.storage.foreign import open_regular

BLOCK_SIZE = 1 << 20
# A Zstandard block of 4 bytes can say 128 KiB: so much input can become at most 32 MiB.
_ZSTD_INPUT = 1 << 10
_GZIP_INPUT = 1 << 14  # what is not decompressed yet is copied for each piece that comes out
_HEAD_SIZE = 4096
_PROGRESS_STEP = 1 << 18
# Rows that say something become a tenth when they are compressed; gzip's most is 1,032 times.
_MOST_TIMES, _HARMLESS = 500, 64 << 20


class Meter:
    """Counts the bytes read of all files; tells the progress, and ends the reading when it is cancelled."""

    def __init__(
        self,
        total: int,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._total = total
        self._done = self._told = 0
        self._progress = progress
        self._cancelled = cancelled

    def advance(self, size: int) -> None:
        """Count `size` more bytes. Raises StudioError of kind interrupted where the reading is cancelled."""
        self._done += size
        if self._progress is not None and (self._done - self._told >= _PROGRESS_STEP or self._done >= self._total):
            self._told = self._done
            self._progress(self._done, self._total)
        if self._cancelled is not None and self._cancelled():
            raise StudioError(say("Reading the dataset was cancelled."), kind=FailureKind.INTERRUPTED)


class DatasetStream:
    """The text of one file as blocks of UTF-8. Bytes that are no text in the file's encoding stay undecodable in it."""

    def __init__(
        self, file: DatasetFile, encoding: TextEncoding, meter: Meter, *, block_size: int = BLOCK_SIZE
    ) -> None:
        self.file = file
        self.encoding = encoding
        self._meter = meter
        self._block_size = block_size
        self._taken = 0

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks. Raises StudioError where the file cannot be read or its compression is damaged."""
        blocks = self._decompressed()
        seen: list[bytes] = []
        for block in blocks:
            seen.append(block)
            if sum(map(len, seen)) >= _HEAD_SIZE:
                break
        self.encoding.inspect(b"".join(seen)[:_HEAD_SIZE], self.file.path.name)
        yield from self.encoding.transcoded(_without_head(chain(seen, blocks), self.encoding.bom_size))

    def first_bytes(self, size: int) -> bytes:
        """Return the first bytes, decompressed, as they are. Raises StudioError."""
        return next(self._decompressed(), b"")[:size]

    def _decompressed(self) -> Iterator[bytes]:
        """Yield the bytes. Raises StudioError where a little file would never end: a program's time is not for that."""
        size = self._taken = 0
        for block in self._read():
            size += len(block)
            if size > max(_HARMLESS, _MOST_TIMES * self._taken):
                raise self._refused(
                    say("becomes more than {most_times} times its size", most_times=_MOST_TIMES),
                    say("Decompress it, and look into it."),
                )
            yield block

    def _read(self) -> Iterator[bytes]:
        try:
            with os.fdopen(open_regular(self.file.path), "rb") as stream:
                if self.file.compression == "gzip":
                    yield from self._gunzipped(stream)
                elif self.file.compression == "zstd":
                    yield from self._unzstd(stream)
                else:
                    yield from self._stored(stream, self._block_size)
        except OSError as error:
            raise cannot_read(self.file.path, error) from error

    def _stored(self, stream: BinaryIO, size: int) -> Iterator[bytes]:
        while block := stream.read(size):
            self._meter.advance(len(block))
            self._taken += len(block)
            yield block

    def _gunzipped(self, stream: BinaryIO) -> Iterator[bytes]:
        decompressor = zlib.decompressobj(wbits=31)
        began = False
        try:
            for block in self._stored(stream, _GZIP_INPUT):
                while block:
                    if decompressor.eof:
                        if block.count(0) == len(block):  # padding after the last member, which gzip allows
                            break
                        decompressor = zlib.decompressobj(wbits=31)
                    began = True
                    piece = decompressor.decompress(block, self._block_size)
                    block = decompressor.unconsumed_tail or decompressor.unused_data
                    if piece:
                        yield piece
                    while (
                        not block and not decompressor.eof and (piece := decompressor.decompress(b"", self._block_size))
                    ):
                        yield piece
        except zlib.error as error:
            raise self._damaged(str(error)) from error
        if began and not decompressor.eof:
            raise self._damaged(say("the end is missing"))

    def _unzstd(self, stream: BinaryIO) -> Iterator[bytes]:
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        began = False
        try:
            for block in self._stored(stream, _ZSTD_INPUT):
                while block:
                    if decompressor.eof:
                        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
                    began = True
                    if piece := decompressor.decompress(block):
                        yield piece
                    block = decompressor.unused_data if decompressor.eof else b""
        except zstandard.ZstdError as error:
            raise self._damaged(str(error)) from error
        if began and not decompressor.eof:
            raise self._damaged(say("the end is missing"))

    def _damaged(self, detail: str) -> StudioError:
        return self._refused(say("is damaged: {detail}", detail=detail), say("Copy or download it again."))

    def _refused(self, why: str, advice: str) -> StudioError:
        words = f"The compressed file {self.file.path.name} {why}."
        return StudioError(words, kind=FailureKind.DATA_REFUSED, advice=advice)


def _without_head(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for block in blocks:
        rest = block[size:]
        size = max(0, size - len(block))
        if rest:
            yield rest
