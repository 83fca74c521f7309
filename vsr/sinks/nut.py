"""Writes the pixel aspect ratio into NUT: a finished file, or one on its way into a pipe.

FFmpeg's muxer takes it from a field that PyAV cannot set. A file begins with::

    main header  stream header ...  info ...  syncpoint  frames ...

and points back by positions in bytes, so the headers keep their length: numbers up to 127 take the
byte that the unknown ratio took, and larger ones take theirs from the name of the writer
(``Lavf63.1.102``) in the info. (NUT open container format, "headers".)
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vsr.nut import (
    CHECKSUM_BYTES,
    MAIN,
    NUT_MAGIC,
    STARTCODE_BYTES,
    IncompleteError,
    encode_header,
    encode_number,
    read_head,
    read_number,
)

__all__ = ["patched_head", "set_aspect_ratio"]

_STREAM = b"NS\x11\x40\x5b\xf2\xf9\xdb"
_INFO = b"NI\xab\x68\xb5\x96\xba\x78"
_HEADERS = (MAIN, _STREAM, _INFO)
_VIDEO = 0
_WRITER = b"\x07encoder\x02"  # the name of the field, the type "text"; length and text follow
_HEAD_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Packet:
    """A header: its startcode, its content, and the bytes that its length field takes."""

    startcode: bytes
    body: bytes
    length_bytes: int

    def encode(self) -> bytes:
        """The packet as it stands in the stream."""
        return encode_header(self.startcode, self.body, self.length_bytes)


def set_aspect_ratio(path: Path, stream: int, sar: Fraction) -> None:
    """Give a video ``stream`` of a NUT file pixels of the shape ``sar``.

    Args:
        path: a complete file, written by FFmpeg; changed in place.
        stream: the stream, counted from 0.
        sar: width over height of a pixel.

    Raises:
        ValueError: the file is not laid out as FFmpeg does it, or has no room for these numbers; it
            has not been touched.
        OSError: reading or writing failed.
    """
    with path.open("r+b") as file:
        new = patched_head(file.read(_HEAD_BYTES), stream, sar)
        if new is None:
            raise ValueError("its headers are cut off")
        file.seek(0)
        file.write(new)


def patched_head(data: bytes, stream: int, sar: Fraction) -> bytes | None:
    """The beginning of a file with another aspect ratio, of the same length.

    Args:
        data: the first bytes of the file.
        stream: the video stream, counted from 0.
        sar: width over height of a pixel.

    Returns:
        ``data`` with the change; None if it ends within the headers.

    Raises:
        ValueError: as for :func:`set_aspect_ratio`.
    """
    if not data.startswith(NUT_MAGIC[: len(data)]):
        raise ValueError("not a NUT file")
    try:
        end, packets = _headers(data, len(NUT_MAGIC))
    except IncompleteError:
        return None
    shaped = [_with_shape(packet, stream, sar) for packet in packets]
    if shaped == packets and not any(_is_video(packet, stream) for packet in packets):
        raise ValueError(f"there is no video stream {stream}")
    for spared in range(_writer_length(packets) + 1):
        new = b"".join(packet.encode() for packet in _shortened(shaped, spared))
        if len(new) == end - len(NUT_MAGIC):
            return NUT_MAGIC + new + data[end:]
    raise ValueError("no room for these numbers")


def _is_video(packet: _Packet, stream: int) -> bool:
    """Whether ``packet`` is the header of the video stream ``stream``."""
    if packet.startcode != _STREAM:
        return False
    index, position = read_number(packet.body, 0)
    return index == stream and read_number(packet.body, position)[0] == _VIDEO


def _with_shape(packet: _Packet, stream: int, sar: Fraction) -> _Packet:
    """``packet`` with the ratio, if it is the header of ``stream``."""
    if not _is_video(packet, stream):
        return packet
    body = packet.body
    # stream, class; fourcc; time base, pts shift, pts distance, decode delay, flags; codec specific
    # data; width, height
    start = _skip(body, 0, "nntnnnnntnn")
    end = _skip(body, start, "nn")
    ratio = encode_number(sar.numerator) + encode_number(sar.denominator)
    return _Packet(_STREAM, body[:start] + ratio + body[end:], packet.length_bytes)


def _skip(body: bytes, position: int, fields: str) -> int:
    """Where the ``fields`` at ``position`` end; n is a number, t a text of so many bytes."""
    for field in fields:
        value, position = read_number(body, position)
        position += value if field == "t" else 0
    return position


def _headers(data: bytes, start: int) -> tuple[int, list[_Packet]]:
    """The headers that begin at ``start``, and where they end."""
    packets: list[_Packet] = []
    while len(data) >= start + STARTCODE_BYTES:
        if data[start : start + STARTCODE_BYTES] not in _HEADERS:
            return start, packets
        packet, start = _parse(data, start)
        packets.append(packet)
    raise IncompleteError


def _parse(data: bytes, start: int) -> tuple[_Packet, int]:
    """The packet at ``start``, and where it ends."""
    head = read_head(data, start)
    if head.end > len(data):
        raise IncompleteError
    body = data[head.start : head.end - CHECKSUM_BYTES]
    packet = _Packet(data[start : start + STARTCODE_BYTES], body, head.length_bytes)
    if packet.encode() != data[start : head.end]:
        raise ValueError("not laid out as FFmpeg does it")
    return packet, head.end


def _writer_length(packets: list[_Packet]) -> int:
    """Bytes of the writer's name in the first info that has it."""
    for packet in packets:
        place = packet.body.find(_WRITER)
        if packet.startcode == _INFO and place >= 0:
            return read_number(packet.body, place + len(_WRITER))[0]
    return 0


def _shortened(packets: list[_Packet], spared: int) -> list[_Packet]:
    """``packets`` with ``spared`` bytes less of the writer's name."""
    found: list[_Packet] = []
    for packet in packets:
        place = packet.body.find(_WRITER)
        if spared and packet.startcode == _INFO and place >= 0:
            body, place = packet.body, place + len(_WRITER)
            length, text = read_number(body, place)
            body = (
                body[:place]
                + encode_number(length - spared)
                + body[text : text + length - spared]
                + (body[text + length :])
            )
            packet, spared = _Packet(_INFO, body, packet.length_bytes), 0
        found.append(packet)
    return found
