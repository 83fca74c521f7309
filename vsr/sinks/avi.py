"""Writes the pixel aspect ratio into a finished AVI file.

FFmpeg's muxer takes it from a field that PyAV cannot set. OpenDML's video properties header says
it, as the aspect ratio of the picture; FFmpeg leaves room for one in front of the frames::

    RIFF "AVI "  LIST hdrl (avih, LIST strl (strh, strf, ...) ...)  LIST INFO  JUNK  LIST movi

The new chunk goes to the end of the stream's list, and the junk shrinks by as much: the frames stay
where they are. (OpenDML AVI File Format Extensions 1.02, "Video Properties Header".)
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

__all__ = ["set_aspect_ratio"]

_HEAD_BYTES = 4 << 20
_LARGEST = 0xFFFF  # the aspect ratio is two numbers of 16 bits


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk: its identifier, and its content with the type of a list in front."""

    id: bytes
    body: bytes

    def encode(self) -> bytes:
        """The chunk as it stands in the file, filled up to an even length."""
        size = struct.pack("<I", len(self.body))
        return self.id + size + self.body + bytes(len(self.body) % 2)

    def is_list(self, kind: bytes) -> bool:
        """Whether this is a list of that type."""
        return self.id == b"LIST" and self.body[:4] == kind

    def children(self) -> list["_Chunk"]:
        """The chunks in a list."""
        found, position = [], 4
        while position < len(self.body):
            chunk, position = _parse(self.body, position)
            found.append(chunk)
        return found

    def with_children(self, children: list["_Chunk"]) -> "_Chunk":
        """The same list of ``children``."""
        return _Chunk(self.id, self.body[:4] + b"".join(chunk.encode() for chunk in children))


def set_aspect_ratio(path: Path, stream: int, sar: Fraction) -> None:
    """Give the video ``stream`` of an AVI file pixels of the shape ``sar``.

    Args:
        path: a complete file, written by FFmpeg; changed in place.
        stream: the stream, counted from 0.
        sar: width over height of a pixel.

    Raises:
        ValueError: the file is not laid out as FFmpeg does it, or its numbers cannot say ``sar``;
            it has not been touched.
        OSError: reading or writing failed.
    """
    with path.open("r+b") as file:
        start, old = _head(file.read(_HEAD_BYTES))
        new = _patched(old, stream, sar)
        file.seek(start)
        file.write(new)


def _head(data: bytes) -> tuple[int, list[_Chunk]]:
    """Where the chunks in front of the frames start, and these."""
    if data[:4] != b"RIFF" or data[8:12] != b"AVI ":
        raise ValueError("not an AVI file")
    position, chunks = 12, []
    while data[position : position + 4] != b"LIST" or data[position + 8 : position + 12] != b"movi":
        chunk, position = _parse(data, position)
        chunks.append(chunk)
    if not chunks or not chunks[0].is_list(b"hdrl") or chunks[-1].id != b"JUNK":
        raise ValueError("not laid out as FFmpeg does it")
    return 12, chunks


def _patched(head: list[_Chunk], stream: int, sar: Fraction) -> bytes:
    header, *between, junk = head
    parts = header.children()
    places = [place for place, part in enumerate(parts) if part.is_list(b"strl")]
    if stream >= len(places):
        raise ValueError(f"there is no stream {stream}")
    parts[places[stream]] = _with_shape(parts[places[stream]], sar)
    new_header = header.with_children(parts)
    growth = len(new_header.encode()) - len(header.encode())
    if growth > len(junk.body):
        raise ValueError("no room in front of the frames")
    new_junk = _Chunk(b"JUNK", bytes(len(junk.body) - growth))
    return b"".join(chunk.encode() for chunk in (new_header, *between, new_junk))


def _with_shape(stream: _Chunk, sar: Fraction) -> _Chunk:
    parts = [part for part in stream.children() if part.id != b"vprp"]
    bodies = {part.id: part.body for part in parts}
    header, form = bodies[b"strh"], bodies[b"strf"]
    if header[:4] != b"vids":
        raise ValueError("not a video stream")
    scale, rate = struct.unpack_from("<II", header, 20)
    width, height = struct.unpack_from("<ii", form, 4)
    return stream.with_children([*parts, _properties(width, abs(height), sar, rate // scale)])


def _properties(width: int, height: int, sar: Fraction, rate: int) -> _Chunk:
    """The video properties header: one field a frame, all of it valid."""
    shape = sar * width / height
    if max(shape.numerator, shape.denominator) > _LARGEST:
        raise ValueError(f"the numbers of {shape.numerator}:{shape.denominator} are too large")
    unknown = 0
    head = struct.pack(
        "<IIIIIHHIII", unknown, unknown, rate, width, height, shape.denominator, shape.numerator,
        width, height, 1,
    )  # fmt: skip
    return _Chunk(b"vprp", head + struct.pack("<8I", height, width, height, width, 0, 0, 0, 0))


def _parse(data: bytes, position: int) -> tuple[_Chunk, int]:
    """The chunk at ``position``, and where the next one starts."""
    if position + 8 > len(data):
        raise ValueError("cut off")
    (size,) = struct.unpack_from("<I", data, position + 4)
    end = position + 8 + size
    if end > len(data):
        raise ValueError("a chunk reaches beyond the part that was read")
    return _Chunk(data[position : position + 4], data[position + 8 : end]), end + size % 2
