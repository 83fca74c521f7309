"""Does a stream end where one of its pieces does? FFmpeg is silent about one that is cut short.

Matroska (RFC 8794), MP4 (ISO/IEC 14496-12, 4.2), NUT and FLV are pieces that say how long they are,
one after the other. A pipe cannot be asked for its length, so they are counted as they come by. Of
a file, what is whole is leapt over.
"""

from io import BufferedReader
from pathlib import Path
from typing import Protocol

from vsr.ebml import CLUSTER, EBML, SEGMENT, element_head
from vsr.sources.nut_pieces import NUT_MAGIC, NutMeasure
from vsr.sources.ts_packets import TS_TAIL, missing_of_ts

__all__ = ["Measure", "PieceCounter", "ends_amid_packet", "is_cut_short"]

_ENTERED = (SEGMENT, CLUSTER)
"""Elements whose contents are pieces themselves, and whose length need not be known."""
_MAGIC = 8
"""Bytes by which a format is known; each begins with a longer piece."""
_BOXES = (b"ftyp", b"styp", b"moov", b"moof")
_FLV = b"FLV"
_FLV_HEADER, _FLV_TAG, _FLV_LENGTH = 9, 11, 4
"""Bytes of the header, of the head of a tag, and of the length that is repeated behind each."""
_FLV_KINDS = (8, 9, 18)
"""Sound, picture, and what is said of them; their bit 5 says that they are encrypted."""
_FLV_ENCRYPTED = 0x20
_READ = 1 << 20
_BLOCKS = (0xA3, 0xA0, 0xE7)
"""Elements of a cluster: a packet, with or without more about it, and what time it counts from."""
_MOST = 1 << 16
"""Bytes of a head that is read at all; NUT's longest has some hundred."""
_LONGEST_HEAD = 12
_NEAR = 64  # bytes that the heads of a block take


class Measure(Protocol):
    """Reads the head of a piece."""

    def __call__(self, head: bytes) -> tuple[int, int] | None:
        """Bytes of the head, and of what follows it; None if ``head`` is too short.

        Raises:
            ValueError: it is no head, or goes on to the end of the stream.
        """


class PieceCounter:
    """Follows the pieces of one stream.

    Other formats are let pass, and so is the rest of a stream that is damaged.
    """

    def __init__(self) -> None:
        self._measure: Measure | None = None
        self._head = b""
        self._to_come = 0
        self._lost = False
        self._taken = 0
        self.begin = 0
        """Where the piece at hand begins, in bytes from the start of the stream."""

    @property
    def missing(self) -> int:
        """Bytes that are still to come of the piece at hand, at least; 0 if it is complete."""
        return 0 if self._lost or not self._measure else self._to_come or len(self._head)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        at = 0
        while at < len(data) and not self._lost:
            if self._to_come:
                step = min(self._to_come, len(data) - at)
                self._to_come -= step
            else:
                step = 1
                if not self._head:
                    self.begin = self._taken
                self._add_to_head(data[at : at + 1])
            at += step
            self._taken += step

    def _add_to_head(self, byte: bytes) -> None:
        self._head += byte
        if len(self._head) > _MOST:  # read anew with each byte, it would take for ever
            self._lost = True
            return
        try:
            if self._measure is None and len(self._head) == _MAGIC:
                self._measure = _measure_of(self._head)
            measured = self._measure(self._head) if self._measure else None
        except ValueError:
            self._lost = True
            return
        if measured is not None:
            length, self._to_come = measured
            self._to_come -= len(self._head) - length  # of the first head, more is at hand
            self._head = b""


def _measure_of(head: bytes) -> Measure:
    if int.from_bytes(head[:4]) == EBML:
        return _measure_element
    if head[4:8] in _BOXES:
        return _measure_box
    if NUT_MAGIC.startswith(head):
        return NutMeasure()
    if head.startswith(_FLV):
        return _measure_tag
    raise ValueError("neither Matroska, MP4, NUT nor FLV")


def _measure_element(head: bytes) -> tuple[int, int] | None:
    if (found := element_head(head)) is None:
        return None
    if found.id in _ENTERED:
        return found.bytes, 0
    if found.length is None:
        raise ValueError("of unknown length")
    return found.bytes, found.length


def _measure_box(head: bytes) -> tuple[int, int] | None:
    large = head[:4] == b"\0\0\0\1"
    length = 16 if large else 8
    if len(head) < length:
        return None
    return _checked(length, head[8:] if large else head[:4])


def _checked(length: int, size: bytes) -> tuple[int, int]:
    if int.from_bytes(size) < length:
        raise ValueError("goes on to the end, or is damaged")
    return length, int.from_bytes(size) - length


def _measure_tag(head: bytes) -> tuple[int, int] | None:
    is_first = head.startswith(_FLV)
    if len(head) < (_FLV_HEADER if is_first else _FLV_TAG):
        return None
    if is_first:
        _, rest = _checked(_FLV_HEADER, head[5:9])
        return _FLV_HEADER, rest + _FLV_LENGTH
    if head[0] & ~_FLV_ENCRYPTED not in _FLV_KINDS:
        raise ValueError("no tag begins so")
    return _FLV_TAG, int.from_bytes(head[1:4]) + _FLV_LENGTH


def is_cut_short(path: Path) -> bool:
    """Whether the file is empty, or ends in the middle of a packet or piece; False if unknown."""
    counter, tail = PieceCounter(), b""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            while data := file.read(_READ):
                counter.feed(data)
                tail = (tail + data)[-TS_TAIL:]
    except OSError:
        return False
    return not tail or counter.missing > 0 or missing_of_ts(tail) > 0


def ends_amid_packet(path: Path, format: str, furthest: int) -> bool:
    """Whether a file of Matroska or FLV ends in the middle of a packet; False if unknown.

    Complete recordings may lack a length, end with a cluster of unknown length, or be followed by
    something else.

    Args:
        path: the file.
        format: FFmpeg's name of its format.
        furthest: where FFmpeg found the last packet, in bytes.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if format.startswith("matroska"):
                return _ends_amid_block(file, size, furthest)
            return format == "flv" and 0 < furthest < size and _ends_amid_tag(file, size, furthest)
    except (OSError, ValueError):
        return False


def _ends_amid_block(file: BufferedReader, size: int, furthest: int) -> bool:
    """The same of Matroska.

    Raises:
        ValueError: it is damaged, or goes on with something else.
    """
    position = 0
    while position < size:
        file.seek(position)
        data = file.read(_LONGEST_HEAD)
        if (head := element_head(data)) is None:
            return data[0] in _BLOCKS
        begin = position + head.bytes
        end = None if head.length is None else begin + head.length
        is_whole = end is not None and end <= size
        if head.id == SEGMENT or (head.id == CLUSTER and not is_whole):
            position = begin
        elif end is None or end > size:
            # Where packets follow far behind its head, it is the length that is damaged.
            return end is not None and head.id in _BLOCKS and furthest <= position + _NEAR
        else:
            position = end
    return False


def _ends_amid_tag(file: BufferedReader, size: int, position: int) -> bool:
    """The same of FLV from the tag at ``position`` on.

    Raises:
        ValueError: it is damaged, or goes on with something else.
    """
    while position < size:
        file.seek(position)
        head = file.read(_FLV_TAG)
        if head[0] & ~_FLV_ENCRYPTED not in _FLV_KINDS:
            return False
        if (measured := _measure_tag(head)) is None:
            return True
        position += sum(measured)
    return position - _FLV_LENGTH > size
