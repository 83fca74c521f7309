"""Elements of EBML (RFC 8794), of which Matroska is made: read, and written again."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "CLUSTER",
    "EBML",
    "SEGMENT",
    "CutShortError",
    "Element",
    "Head",
    "element_head",
    "elements",
    "number_element",
    "read_element",
]

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_CRC = 0xBF
_LONGEST_IDENTIFIER, _LONGEST_SIZE = 4, 8


class CutShortError(ValueError):
    """An element goes on behind the bytes at hand."""


class Head(NamedTuple):
    """What stands in front of an element's content."""

    id: int
    bytes: int
    """Of the head itself."""
    length: int | None
    """Bytes of the content; None: not known beforehand."""


@dataclass(slots=True)
class Element:
    """An element: its identifier, its content, and the bytes that its size field takes."""

    id: int
    body: bytes
    size_bytes: int

    def encode(self) -> bytes:
        """The element as it stands in a file; the size field keeps its length if it can."""
        length = self.size_bytes
        while len(self.body) >= (1 << 7 * length) - 1:
            length += 1
        size = (1 << 7 * length | len(self.body)).to_bytes(length)
        return self.id.to_bytes(_bytes_of(self.id)) + size + self.body

    def children(self) -> list["Element"]:
        """The elements in the content.

        Raises:
            ValueError: it does not consist of elements.
        """
        return list(elements(self.body))

    def with_children(self, children: Iterable["Element"]) -> "Element":
        """The same element around ``children``, its checksum made right."""
        parts = list(children)
        if parts and parts[0].id == _CRC:
            checked = b"".join(child.encode() for child in parts[1:])
            parts[0] = Element(_CRC, zlib.crc32(checked).to_bytes(4, "little"), 1)
        return Element(self.id, b"".join(child.encode() for child in parts), self.size_bytes)


def number_element(identifier: int, value: int) -> Element:
    """An element that holds an unsigned integer."""
    return Element(identifier, value.to_bytes(_bytes_of(value)), 1)


def element_head(data: bytes, position: int = 0) -> Head | None:
    """The head at ``position``; None if ``data`` ends before it does.

    Raises:
        ValueError: it is no element.
    """
    if (name := _number_bytes(data, position, _LONGEST_IDENTIFIER)) is None:
        return None
    behind = position + name
    if (size := _number_bytes(data, behind, _LONGEST_SIZE)) is None:
        return None
    unknown = (1 << 7 * size) - 1
    length = int.from_bytes(data[behind : behind + size]) & unknown
    identifier = int.from_bytes(data[position:behind])
    return Head(identifier, name + size, None if length == unknown else length)


def read_element(data: bytes, position: int = 0) -> tuple[Element, int]:
    """The element at ``position``, and where the next one starts.

    Raises:
        CutShortError: ``data`` ends before the element does.
        ValueError: it is no element, or none whose length is known.
    """
    if (head := element_head(data, position)) is None:
        raise CutShortError("cut off within an element's head")
    if head.length is None:
        raise ValueError("an element of unknown length")
    start = position + head.bytes
    end = start + head.length
    if end > len(data):
        raise CutShortError("an element goes on behind the bytes at hand")
    return Element(head.id, data[start:end], head.bytes - _bytes_of(head.id)), end


def elements(body: bytes) -> Iterator[Element]:
    """The elements that ``body`` consists of.

    Raises:
        ValueError: it does not consist of elements.
    """
    position = 0
    while position < len(body):
        element, position = read_element(body, position)
        yield element


def _number_bytes(data: bytes, position: int, longest: int) -> int | None:
    """Bytes of the number of variable length at ``position``; None if it is cut off."""
    if position >= len(data):
        return None
    length = 9 - data[position].bit_length()
    if length > longest:
        raise ValueError("not EBML, or damaged")
    return length if position + length <= len(data) else None


def _bytes_of(number: int) -> int:
    return max(1, (number.bit_length() + 7) // 8)
