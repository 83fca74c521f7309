"""Whether an OpenEXR picture is all there; FFmpeg leaves what is cut off black, and says nothing.

Source: OpenEXR, "OpenEXR File Layout" (openexr.com): a header, a table of the places of all chunks,
the chunks.
"""

import struct

__all__ = ["is_complete"]

_FLAGS_MULTIPART = 0x1000
_FLAG_TILED = 0x200
_TILE_PLACE = 16
_LINE_PLACE = 4
"""Bytes that say where a chunk belongs, ahead of its size."""


def is_complete(data: bytes) -> bool:
    """Whether every chunk of the OpenEXR file ``data`` lies within it."""
    try:
        (version,) = struct.unpack_from("<I", data, 4)
        if version & _FLAGS_MULTIPART:
            return True  # several headers, which FFmpeg reads itself
        chunks = _chunks(data, _end_of_header(data))
        place = _TILE_PLACE if version & _FLAG_TILED else _LINE_PLACE
        return all(_holds(data, chunk + place) for chunk in chunks) and min(chunks) > 0
    except (struct.error, ValueError, OverflowError):  # no place in a file is beyond 63 bits
        return False


def _holds(data: bytes, position: int) -> bool:
    """Whether a size stands at ``position``, and that many bytes behind it."""
    (size,) = struct.unpack_from("<I", data, position)
    return position + 4 + int(size) <= len(data)


def _end_of_header(data: bytes) -> int:
    """Where the attributes end: each is a name, a type, a size and that many bytes."""
    position = 8
    while data[position : position + 1] != b"\0":
        value = data.index(b"\0", data.index(b"\0", position) + 1) + 1
        (size,) = struct.unpack_from("<I", data, value)
        position = value + 4 + size
    return position + 1


def _chunks(data: bytes, table: int) -> list[int]:
    """The places in the table, which ends where the first chunk begins."""
    places, first = list[int](), len(data)
    while table < first:
        (place,) = struct.unpack_from("<Q", data, table)
        places.append(place)
        first = min(first, place)
        table += 8
    return places
