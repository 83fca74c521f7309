"""Writes the pixel aspect ratio into NUT on its way to a file or a pipe.

FFmpeg's muxer takes it from a field that PyAV cannot set. NUT repeats its headers now and then::

    main header  stream header ...  info ...  syncpoint  frames ...

and points back by distances in bytes, so each group of headers keeps its length: numbers up to 127
take the byte that the unknown ratio took, and larger ones take theirs from the name of the writer
(``Lavf63.1.102``) in the info. (NUT open container format, "headers".)
"""

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["NutAspectRatio"]

_MAIN = b"NM\x7a\x56\x1f\x5f\x04\xad"
_STREAM = b"NS\x11\x40\x5b\xf2\xf9\xdb"
_INFO = b"NI\xab\x68\xb5\x96\xba\x78"
_HEADERS = (_MAIN, _STREAM, _INFO)
_STARTCODE_BYTES, _CHECKSUM_BYTES = 8, 4
_POLYNOMIAL = 0x04C11DB7
_VIDEO = 0
_WRITER = b"\x07encoder\x02"  # the name of the field, the type "text"; length and text follow
_GROUP_BYTES = 16 << 20  # of headers; metadata are small


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
        if len(self.body) + _CHECKSUM_BYTES > 4096:  # long packets protect their length, too
            head += _checksum(head)
        return head + self.body + _checksum(self.body)


class NutAspectRatio:
    """Passes NUT on, with the pixel shape ``sar`` in every header of the stream ``index``.

    Args:
        index: The stream, counted from 0.
        sar: Width over height of a pixel.
    """

    def __init__(self, index: int, sar: Fraction) -> None:
        self.problem: str | None = None
        """Why the ratio could not be written, if it could not."""
        self._index = index
        self._sar = sar
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return those that are ready."""
        data = self._held + data
        ready: list[bytes] = []
        position = 0
        while (start := data.find(_MAIN, position)) >= 0:
            try:
                end, packets = _group(data, start)
            except _Incomplete:
                if len(data) - start > _GROUP_BYTES:
                    self.problem = "its headers are too long"
                    break
                self._held = data[start:]
                return [*ready, data[position:start]]
            except ValueError:  # samples that look like a header
                end = start + _STARTCODE_BYTES
                ready.append(data[position:end])
            else:
                ready += [data[position:start], self._patched(packets)]
            position = end
        keep = _begun(data, position)
        self._held = data[len(data) - keep :]
        return [*ready, data[position : len(data) - keep]]

    def rest(self) -> bytes:
        """What is held back; for the end of the stream."""
        held, self._held = self._held, b""
        try:
            end, packets = _group(held + bytes(_STARTCODE_BYTES), 0)
            return self._patched(packets) + held[end:]
        except ValueError:
            return held

    def _patched(self, packets: list[_Packet]) -> bytes:
        old = b"".join(packet.encode() for packet in packets)
        try:
            shaped = [self._shaped(packet) for packet in packets]
        except (ValueError, IndexError):
            self.problem = "not laid out as FFmpeg does it"
            return old
        for spared in range(_writer_length(packets) + 1):
            new = b"".join(packet.encode() for packet in _shortened(shaped, spared))
            if len(new) == len(old):
                return new
        self.problem = "no room for these numbers"
        return old

    def _shaped(self, packet: _Packet) -> _Packet:
        """``packet`` with the ratio, if it is the header of the stream."""
        if packet.startcode != _STREAM:
            return packet
        body = packet.body
        index, position = _read(body, 0)
        kind, position = _read(body, position)
        if index != self._index or kind != _VIDEO:
            return packet
        position = _skip_text(body, position)  # fourcc
        for _ in range(5):  # time base, pts shift, pts distance, decode delay, flags
            _, position = _read(body, position)
        position = _skip_text(body, position)  # codec specific data
        for _ in range(2):  # width, height
            _, position = _read(body, position)
        start = position
        for _ in range(2):
            _, position = _read(body, position)
        ratio = _number(self._sar.numerator) + _number(self._sar.denominator)
        return _Packet(_STREAM, body[:start] + ratio + body[position:], packet.length_bytes)


def _group(data: bytes, start: int) -> tuple[int, list[_Packet]]:
    """The headers that begin at ``start``, and where they end."""
    packets: list[_Packet] = []
    while len(data) >= start + _STARTCODE_BYTES:
        if data[start : start + _STARTCODE_BYTES] not in _HEADERS:
            return start, packets
        packet, start = _parse(data, start)
        packets.append(packet)
    raise _Incomplete


def _parse(data: bytes, start: int) -> tuple[_Packet, int]:
    """The packet at ``start``, and where it ends; ValueError if its checksum says it is none."""
    position = start + _STARTCODE_BYTES
    length, body_start = _read(data, position)
    length_bytes = body_start - position
    if length > 4096:
        body_start += _CHECKSUM_BYTES
    if not _CHECKSUM_BYTES < length < _GROUP_BYTES:
        raise ValueError("no packet")
    end = body_start + length
    if end > len(data):
        raise _Incomplete
    body = data[body_start : end - _CHECKSUM_BYTES]
    packet = _Packet(data[start : start + _STARTCODE_BYTES], body, length_bytes)
    if packet.encode() != data[start:end]:
        raise ValueError("no packet")
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


def _begun(data: bytes, position: int) -> int:
    """How many of the last bytes may be the beginning of a startcode."""
    longest = min(_STARTCODE_BYTES - 1, len(data) - position)
    return next((n for n in range(longest, 0, -1) if data.endswith(_MAIN[:n])), 0)


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


def _skip_text(data: bytes, position: int) -> int:
    length, position = _read(data, position)
    return position + length


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
