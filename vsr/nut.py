"""Headers and numbers of NUT (NUT open container format): read, and written again.

A stream begins with :data:`NUT_MAGIC`. A header is a startcode of eight bytes, the length of what
follows, the content, and a checksum; frames have none of these.
"""

from typing import NamedTuple

from vsr.crc import crc32

__all__ = [
    "CHECKSUM_BYTES",
    "LONG",
    "MAIN",
    "NUT_MAGIC",
    "STARTCODE_BYTES",
    "Head",
    "IncompleteError",
    "checksum",
    "encode_header",
    "encode_number",
    "read_head",
    "read_number",
]

NUT_MAGIC = b"nut/multimedia container\0"
MAIN = b"NM\x7a\x56\x1f\x5f\x04\xad"
"""The startcode of the main header."""
STARTCODE_BYTES, CHECKSUM_BYTES = 8, 4
LONG = 4096
"""Longer headers protect their length, too; longer frames leave none of their beginning out."""


class IncompleteError(ValueError):
    """The rest has not come yet."""


class Head(NamedTuple):
    """What stands in front of a header's content."""

    length_bytes: int
    """Of the field that says how long it is."""
    start: int
    """Where the content begins."""
    end: int
    """Where the header ends, its checksum included."""


def read_head(data: bytes, position: int = 0) -> Head:
    """The head of the header whose startcode is at ``position``.

    Raises:
        IncompleteError: ``data`` ends before the head does.
    """
    position += STARTCODE_BYTES
    length, start = read_number(data, position)
    length_bytes = start - position
    start += CHECKSUM_BYTES if length > LONG else 0
    if start > len(data):
        raise IncompleteError
    return Head(length_bytes, start, start + length)


def encode_header(startcode: bytes, body: bytes, length_bytes: int = 1) -> bytes:
    """A header as it stands in the stream.

    Args:
        startcode: says which it is.
        body: the content, without the checksum.
        length_bytes: how long the field at least is that holds the length.
    """
    length = len(body) + CHECKSUM_BYTES
    head = startcode + encode_number(length, length_bytes)
    if length > LONG:
        head += checksum(head)
    return head + body + checksum(body)


def read_number(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position``, seven bits a byte, and where it ends.

    One with a sign takes as many bytes.

    Raises:
        IncompleteError: ``data`` ends before the number does.
    """
    value = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position
    raise IncompleteError


def encode_number(value: int, least: int = 1) -> bytes:
    """``value``, 0 or above, as NUT writes it, in ``least`` bytes or more."""
    count = max(least, -(-value.bit_length() // 7), 1)
    parts = [value >> 7 * place & 0x7F for place in reversed(range(count))]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def checksum(data: bytes) -> bytes:
    """What stands behind ``data`` to protect it."""
    return crc32(data).to_bytes(CHECKSUM_BYTES)
