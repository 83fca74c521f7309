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

__all__ = ["patched_head", "set_aspect_ratio"]

_START = b"nut/multimedia container\0"
_MAIN = b"NM\x7a\x56\x1f\x5f\x04\xad"
_STREAM = b"NS\x11\x40\x5b\xf2\xf9\xdb"
_INFO = b"NI\xab\x68\xb5\x96\xba\x78"
_HEADERS = (_MAIN, _STREAM, _INFO)
_STARTCODE_BYTES, _CHECKSUM_BYTES = 8, 4
_LONG = 4096  # longer packets protect their length, too
_POLYNOMIAL = 0x04C11DB7
_VIDEO = 0
_WRITER = b"\x07encoder\x02"  # the name of the field, the type "text"; length and text follow
_HEAD_BYTES = 4 << 20


class _Incomplete(ValueError):
    """The rest has not come yet."""


@dataclass(frozen=True, slots=True)
class _Packet:
    """A header: its startcode, its content, and the bytes that its length field takes."""

    startcode: bytes
    body: bytes
    length_bytes: int

    def encode(self) -> bytes:
        """The packet as it stands in the stream."""
        length = _number(len(self.body) + _CHECKSUM_BYTES, self.length_bytes)
        head = self.startcode + length
        if len(self.body) + _CHECKSUM_BYTES > _LONG:
            head += _checksum(head)
        return head + self.body + _checksum(self.body)


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
    if not data.startswith(_START[: len(data)]):
        raise ValueError("not a NUT file")
    try:
        end, packets = _headers(data, len(_START))
    except _Incomplete:
        return None
    shaped = [_with_shape(packet, stream, sar) for packet in packets]
    if shaped == packets and not any(_is_video(packet, stream) for packet in packets):
        raise ValueError(f"there is no video stream {stream}")
    for spared in range(_writer_length(packets) + 1):
        new = b"".join(packet.encode() for packet in _shortened(shaped, spared))
        if len(new) == end - len(_START):
            return _START + new + data[end:]
    raise ValueError("no room for these numbers")


def _is_video(packet: _Packet, stream: int) -> bool:
    """Whether ``packet`` is the header of the video stream ``stream``."""
    if packet.startcode != _STREAM:
        return False
    index, position = _read(packet.body, 0)
    return index == stream and _read(packet.body, position)[0] == _VIDEO


def _with_shape(packet: _Packet, stream: int, sar: Fraction) -> _Packet:
    """``packet`` with the ratio, if it is the header of ``stream``."""
    if not _is_video(packet, stream):
        return packet
    body = packet.body
    # stream, class; fourcc; time base, pts shift, pts distance, decode delay, flags; codec specific
    # data; width, height
    start = _skip(body, 0, "nntnnnnntnn")
    end = _skip(body, start, "nn")
    ratio = _number(sar.numerator) + _number(sar.denominator)
    return _Packet(_STREAM, body[:start] + ratio + body[end:], packet.length_bytes)


def _skip(body: bytes, position: int, fields: str) -> int:
    """Where the ``fields`` at ``position`` end; n is a number, t a text of so many bytes."""
    for field in fields:
        value, position = _read(body, position)
        position += value if field == "t" else 0
    return position


def _headers(data: bytes, start: int) -> tuple[int, list[_Packet]]:
    """The headers that begin at ``start``, and where they end."""
    packets: list[_Packet] = []
    while len(data) >= start + _STARTCODE_BYTES:
        if data[start : start + _STARTCODE_BYTES] not in _HEADERS:
            return start, packets
        packet, start = _parse(data, start)
        packets.append(packet)
    raise _Incomplete


def _parse(data: bytes, start: int) -> tuple[_Packet, int]:
    """The packet at ``start``, and where it ends."""
    position = start + _STARTCODE_BYTES
    length, body_start = _read(data, position)
    length_bytes = body_start - position
    if length > _LONG:
        body_start += _CHECKSUM_BYTES
    end = body_start + length
    if end > len(data):
        raise _Incomplete
    body = data[body_start : end - _CHECKSUM_BYTES]
    packet = _Packet(data[start : start + _STARTCODE_BYTES], body, length_bytes)
    if packet.encode() != data[start:end]:
        raise ValueError("not laid out as FFmpeg does it")
    return packet, end


def _writer_length(packets: list[_Packet]) -> int:
    """Bytes of the writer's name in the first info that has it."""
    for packet in packets:
        place = packet.body.find(_WRITER)
        if packet.startcode == _INFO and place >= 0:
            return _read(packet.body, place + len(_WRITER))[0]
    return 0


def _shortened(packets: list[_Packet], spared: int) -> list[_Packet]:
    """``packets`` with ``spared`` bytes less of the writer's name."""
    found: list[_Packet] = []
    for packet in packets:
        place = packet.body.find(_WRITER)
        if spared and packet.startcode == _INFO and place >= 0:
            body, place = packet.body, place + len(_WRITER)
            length, text = _read(body, place)
            body = (
                body[:place]
                + _number(length - spared)
                + body[text : text + length - spared]
                + (body[text + length :])
            )
            packet, spared = _Packet(_INFO, body, packet.length_bytes), 0
        found.append(packet)
    return found


def _read(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position``, seven bits a byte, and where it ends."""
    value = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position
    raise _Incomplete


def _number(value: int, least: int = 1) -> bytes:
    """``value`` as NUT writes it, in ``least`` bytes or more."""
    count = max(least, -(-value.bit_length() // 7), 1)
    parts = [value >> 7 * place & 0x7F for place in reversed(range(count))]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def _checksum(data: bytes) -> bytes:
    """CRC-32, most significant bit first, from 0."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value.to_bytes(4)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (_POLYNOMIAL if value & 0x80000000 else 0)
            value &= 0xFFFFFFFF
        table.append(value)
    return table


_TABLE = _table()
