"""Text encodings of dataset files: UTF-8, or what the user says; never a guess, but a preview of what others read."""

import codecs
import re
from collections.abc import Iterator

from qlora_studio.core.config.run_config import ENCODING_NAMES
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

_CONTEXT = 24
_READING = 480
_NO_ASCII = re.compile(rb"[^\x01-\x7f]")


class TextEncoding:
    """One encoding. Everything behind works on UTF-8; `width` gives back how many bytes a piece took in the file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._codec = "utf-16-le"
        self.bom_size = 0

    def inspect(self, head: bytes, file_name: str) -> None:
        """Look at the first bytes for a BOM and the byte order. Raises StudioError where they are UTF-16 or UTF-32."""
        if self.name == "utf-8":
            _refuse_utf16(head, file_name)
            self.bom_size = 3 if head.startswith(codecs.BOM_UTF8) else 0
        elif self.name == "utf-16":
            self.bom_size = 2 if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else 0
            big = head.startswith(codecs.BOM_UTF16_BE) or (not self.bom_size and head[:1] == b"\x00")
            self._codec = "utf-16-be" if big else "utf-16-le"

    def transcoded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Return the blocks, from which the BOM was taken, as UTF-8."""
        return blocks if self.name == "utf-8" else self._decoded(blocks)

    def width(self, piece: bytes) -> int:
        """Return how many bytes of the file a piece of the transcoded text took."""
        if self.name == "utf-8":
            return len(piece)
        text = piece.decode("utf-8", "surrogatepass")
        return len(text) if self.name == "cp1252" else len(text.encode("utf-16-le", "surrogatepass"))

    def fault(self, line: bytes, offset: int) -> str:
        """Return why an undecodable line is refused: which byte, where, and what Windows-1252 would read there."""
        if self.name != "utf-8":
            return f"this is not {ENCODING_NAMES[self.name]}"
        try:
            line.decode()
        except UnicodeDecodeError as error:
            at = error.start
            reading = preview(line[max(0, at - _CONTEXT) : at + _CONTEXT], "cp1252")
            return (
                f"byte 0x{line[at]:02X} at {offset + at} is not UTF-8; as Windows-1252 it reads “{reading}”: "
                "if that is right, set the text encoding to Windows-1252"
            )
        return ""

    def _decoded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        decoder = _decoder(self.name, self._codec)
        for block in blocks:
            if piece := decoder.decode(block):
                yield piece.encode("utf-8", "surrogatepass")
        try:
            piece = decoder.decode(b"", True)
        except UnicodeDecodeError:  # half a character at the end: undecodable in its row
            piece = "\udcff"
        if piece:
            yield piece.encode("utf-8", "surrogatepass")


def preview(data: bytes, encoding: str) -> str:
    """Return what an encoding would read, with � for what it cannot."""
    text = data.decode(encoding, "replace")
    return "".join(sign if sign.isprintable() else " " for sign in text)


def readings(data: bytes) -> dict[str, str]:
    """Return what each encoding reads in the first bytes of a file, to be shown side by side.

    They begin a little before the first byte that is no ASCII: there the encodings differ. UTF-16 is read only where
    there are zero bytes, as every UTF-16 text with Latin letters has.
    """
    first = _NO_ASCII.search(data)
    data = data[max(0, first.start() - _CONTEXT) // 2 * 2 if first else 0 :][:_READING]
    found = {"utf-8": preview(data.removeprefix(codecs.BOM_UTF8), "utf-8")}
    if b"\x00" in data:
        has_bom = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        found["utf-16"] = preview(data, "utf-16" if has_bom else "utf-16-le")
    return {**found, "cp1252": preview(data, "cp1252")}


def _decoder(name: str, codec: str) -> codecs.IncrementalDecoder:
    if name == "cp1252":
        return codecs.getincrementaldecoder("cp1252")("surrogateescape")
    return codecs.getincrementaldecoder(codec)("surrogatepass")


def _refuse_utf16(head: bytes, file_name: str) -> None:
    """Raise StudioError where the beginning is UTF-16 or UTF-32, by its BOM or by every other byte being zero.

    Where zeros stand at even and at odd places alike, it is no text at all.
    """
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise StudioError(
            say("{file_name} is UTF-32, not UTF-8.", file_name=file_name),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Save it as UTF-8 and read it again."),
        )
    has_bom = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    zeros = head.count(b"\x00")
    if not has_bom and zeros * 4 < max(4, len(head)):
        return
    if not has_bom and max(head[0::2].count(b"\x00"), head[1::2].count(b"\x00")) < 0.9 * zeros:
        raise StudioError(
            say(
                "{file_name} is no text: {zeros:,} of its first {head:,} bytes are zero.",
                file_name=file_name,
                zeros=zeros,
                head=len(head),
            ),
            kind=FailureKind.DATA_REFUSED,
            advice=say("A copy or download of it was not finished, most likely: copy or download it again."),
        )
    big = head.startswith(codecs.BOM_UTF16_BE) or (not has_bom and head[:1] == b"\x00")
    reading = preview(head[2 if has_bom else 0 :][:120], "utf-16-be" if big else "utf-16-le")
    raise StudioError(
        say(
            "{file_name} is not UTF-8 from its first byte on. As UTF-16 it reads: {reading}",
            file_name=file_name,
            reading=reading,
        ),
        kind=FailureKind.DATA_REFUSED,
        advice=say("If that is right, set the text encoding (data.encoding) to utf-16; else save the file as UTF-8."),
    )
