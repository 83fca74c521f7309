"""A segment: the packets of some seconds of picture in a file of their own.

Note [Why segments are no media files]
    No container that FFmpeg writes holds the packets of every encoder exactly: Matroska rounds
    times to milliseconds, NUT has no negative dts, QuickTime no FFV1. What is needed is little: the
    bytes of each packet, its pts, whether it is a key frame, and the headers that the encoder gave.
    So the packets lie one after the other, an index in JSON follows them, then its length and
    eight bytes that say that the file is complete. The dts are not kept: they are made anew for the
    whole film (:mod:`vsr.resume.join`).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, get_args

import av
from av.packet import Packet

from vsr.errors import DamagedSegmentError
from vsr.files import sync_folder
from vsr.judging import Fault

__all__ = [
    "SUFFIX",
    "Index",
    "Provenance",
    "SegmentWriter",
    "Writer",
    "file_name",
    "read_index",
    "read_packets",
]

SUFFIX = ".seg"
_END = b"vsrseg1\n"
_LENGTH_BYTES = 8
_LARGEST_INDEX = 1 << 30


def file_name(number: int) -> str:
    """What the file of segment ``number``, counted from 0, is called."""
    return f"{number:06d}{SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a frame came about."""

    repeats: bool = False
    """Whether it is the result of the one before again."""
    fault: Fault | None = None
    """What was wrong with it (:mod:`vsr.judging`)."""
    repaired: bool = False
    """Whether float32 made that right."""


@dataclass(slots=True, kw_only=True)
class Index:
    """What a segment holds."""

    number: int
    first: int
    """Its first frame, counted from 0 from the start of the film."""
    pts: list[int] = field(default_factory=list)
    """When each frame is shown, in units of the source's time base."""
    durations: list[int] = field(default_factory=list)
    packets: list[tuple[int, int, bool]] = field(default_factory=list)
    """Of each packet, in the order of coding: pts in the encoder's time base, bytes, whether it is
    a key frame."""
    extradata: str = ""
    """The encoder's headers, in hexadecimal digits."""
    md5: list[str] = field(default_factory=list)
    """The hash of each frame, if they are wanted."""
    sha256: list[str] = field(default_factory=list)
    """The hash of each packet, where these are files of their own beside the segment."""
    frame_bytes: int = 0
    """What a frame measures, hashed."""
    timing: list[int] | None = None
    """What the source needs to begin with the last frame; None where it cannot."""
    repeats: list[int] = field(default_factory=list)
    """Places of frames that repeat the one before, counted from 0."""
    incidents: list[tuple[int, Fault, bool]] = field(default_factory=list)
    """Of frames that could not be right: place, what was wrong, whether it was made right."""

    def note(self, place: int, made: Provenance) -> None:
        """Keep how the frame at ``place`` came about."""
        if made.repeats:
            self.repeats.append(place)
        if made.fault is not None:
            self.incidents.append((place, made.fault, made.repaired))

    def check(self) -> None:
        """Raise ValueError if this cannot be what an encoder made of some frames."""
        frames = len(self.pts)
        if not frames or len(self.durations) != frames or len(self.packets) != frames:
            raise ValueError("numbers of frames and packets differ")
        if self.md5 and len(self.md5) != frames:
            raise ValueError("numbers of frames and hashes differ")
        if self.sha256 and len(self.sha256) != frames:
            raise ValueError("numbers of frames and files differ")
        if not self.packets[0][2]:
            raise ValueError("it does not begin with a key frame")
        places = [*self.repeats, *(place for place, _, _ in self.incidents)]
        if not all(0 <= place < frames for place in places):
            raise ValueError("something is said of frames that it does not hold")
        if not {fault for _, fault, _ in self.incidents} <= set(get_args(Fault)):
            raise ValueError("frames have unknown faults")


class Writer(Protocol):
    """Writes what an encoder makes of the frames of one segment."""

    index: Index
    """What the segment holds so far."""
    size: int
    """Bytes of the segment's file."""

    @property
    def frames(self) -> int:
        """How many of the segment's frames need no more to be handed in."""

    def enter(self, place: int, pts: int, duration: int, made: Provenance) -> None:
        """Frame ``place`` of the segment, counted from 0, is given to the encoder.

        It is shown at ``pts``, in units of the source's time base.
        """

    def add(self, packet: "Packet[Any]") -> None:
        """Keep what the encoder gave."""

    def finish(self) -> str:
        """Complete the segment's file, and name it; returns its SHA-256."""

    def abort(self) -> None:
        """Close what is open; harmless after :meth:`finish`."""


class SegmentWriter:
    """Writes one segment; it has its name only when it is complete and on the disk.

    Args:
        folder: where segments lie.
        index: number and first frame; filled with every packet.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self.index = index
        self.size = 0
        """Bytes written."""
        self._path = folder / file_name(index.number)
        self._temporary = self._path.with_name(f"{self._path.name}.part")
        self._hash = hashlib.sha256()
        self._file: BinaryIO = self._temporary.open("wb")

    @property
    def frames(self) -> int:
        """How many frames were entered."""
        return len(self.index.pts)

    def enter(self, place: int, pts: int, duration: int, made: Provenance) -> None:
        """The next frame is shown at ``pts``; it is number ``place`` of the segment."""
        assert place == len(self.index.pts)
        self.index.pts.append(pts)
        self.index.durations.append(duration)
        self.index.note(place, made)

    def add(self, packet: "Packet[Any]") -> None:
        """Append ``packet``.

        Raises:
            OSError: writing failed, e.g. the disk is full.
        """
        assert packet.pts is not None
        self._put(bytes(packet))
        self.index.packets.append((packet.pts, packet.size, packet.is_keyframe))

    def finish(self) -> str:
        """Complete the file, make sure that it is on the disk, name it; returns its SHA-256.

        Raises:
            OSError: writing failed.
        """
        text = json.dumps(asdict(self.index), separators=(",", ":")).encode()
        self._put(text + len(text).to_bytes(_LENGTH_BYTES, "little") + _END)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._path)
        sync_folder(self._path.parent)
        return self._hash.hexdigest()

    def abort(self) -> None:
        """Delete what is not complete; harmless after :meth:`finish`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


def read_index(path: Path) -> Index:
    """What the segment ``path`` says that it holds.

    Raises:
        DamagedSegmentError: it is missing or no complete segment.
    """
    try:
        with path.open("rb") as file:
            return _read_index(file)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedSegmentError(f"{path}: is no complete segment: {error}") from error


def _read_index(file: BinaryIO) -> Index:
    """The index at the end of a segment; raises one of several errors if that is damaged."""
    size = file.seek(0, os.SEEK_END)
    tail = _LENGTH_BYTES + len(_END)
    if size < tail:
        raise ValueError("it is too short")
    file.seek(size - tail)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if file.read() != _END or not 0 < length <= min(size - tail, _LARGEST_INDEX):
        raise ValueError("its end is missing")
    file.seek(size - tail - length)
    values = json.loads(file.read(length))
    values["packets"] = [(int(pts), int(size), bool(key)) for pts, size, key in values["packets"]]
    values["incidents"] = [(int(at), fault, bool(ok)) for at, fault, ok in values["incidents"]]
    index = Index(**values)
    index.check()
    inside = 0 if index.sha256 else sum(packet[1] for packet in index.packets)
    if inside != size - tail - length:
        raise ValueError("its packets do not fill it")
    return index


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def rest(self) -> str:
        """Read what is left; returns the SHA-256 of the whole file."""
        while self.read(1 << 20):
            pass
        return self._hash.hexdigest()


def read_packets(
    path: Path, index: Index, time_base: Fraction, sha256: str
) -> "Iterator[Packet[Any]]":
    """The packets of a segment, in the order of coding, without dts.

    Args:
        path: the segment.
        index: what it holds.
        time_base: the encoder's.
        sha256: of the whole file; compared after the last packet.

    Raises:
        DamagedSegmentError: the file is not what was written.
    """
    try:
        with _Hashed(path) as file:
            for pts, size, key in index.packets:
                yield _packet(file.read(size), pts, time_base, is_keyframe=key)
            if file.rest() != sha256:
                raise DamagedSegmentError(f"{path}: has been altered since it was written")
    except OSError as error:
        raise DamagedSegmentError(f"{path}: cannot be read: {error.strerror}") from error


def _packet(data: bytes, pts: int, base: Fraction, *, is_keyframe: bool) -> "Packet[Any]":
    packet = av.Packet(data)
    packet.pts, packet.time_base = pts, base
    packet.is_keyframe = is_keyframe
    return packet
