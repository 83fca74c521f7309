"""Elements of EBML (RFC 8794), of which Matroska is made."""

from collections.abc import Iterator

__all__ = ["CLUSTER", "EBML", "SEGMENT", "element_head", "elements"]

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_LONGEST_IDENTITY, _LONGEST_SIZE = 4, 8


def element_head(data: bytes) -> tuple[int, int, int | None] | None:
    """What ``data`` begins with.

    Returns:
        The element's identity, the bytes of its head, and of its content (None: not known
        beforehand); None if ``data`` is too short.

    Raises:
        ValueError: it is no element.
    """
    if (name := _number(data, _LONGEST_IDENTITY)) is None:
        return None
    if (size := _number(data[name:], _LONGEST_SIZE)) is None:
        return None
    unknown = (1 << 7 * size) - 1
    length = int.from_bytes(data[name : name + size]) & unknown
    return int.from_bytes(data[:name]), name + size, None if length == unknown else length


def elements(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Identity and content of each element in ``body``.

    Raises:
        ValueError: it does not consist of elements.
    """
    while body:
        found = element_head(body)
        if found is None or found[2] is None or found[1] + found[2] > len(body):
            raise ValueError("an element that is cut short")
        identity, head, length = found[0], found[1], found[2]
        yield identity, body[head : head + length]
        body = body[head + length :]


def _number(data: bytes, longest: int) -> int | None:
    """Bytes of the number of variable length that ``data`` starts with; None if it is cut."""
    if not data:
        return None
    length = 9 - data[0].bit_length()
    if length > longest:
        raise ValueError("no number")
    return length if len(data) >= length else None
