"""What FFmpeg does not say of an OpenEXR picture: whether it is all there, and what is beside it.

Its decoder leaves what is cut off black, reads one colour channel of each kind by its name, and
hands on few attributes.

Source: OpenEXR, "OpenEXR File Layout" and "Standard Attributes" (openexr.com): a header of
attributes, each a name, a type, a size and that many bytes; a table of the places of all chunks;
the chunks.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

__all__ = ["headers", "is_complete", "losses", "rate", "why_not"]

_STRUCTURE = {
    "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio",
    "screenWindowCenter", "screenWindowWidth", "tiles", "name", "type", "version", "chunkCount",
    "view", "dwaCompressionLevel", "maxSamplesPerPixel", "writer", "gamma",
}  # fmt: skip
"""Attributes that say how a file is built, and what FFmpeg writes into all."""
_RATE, _PRIMARIES = "framesPerSecond", "chromaticities"
_BT709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
"""What holds without chromaticities: red, green, blue, white."""
_SAME = 0.001
_LUMA = "y"
_PLACES = {"r": 0, "x": 0, "g": 1, "y": 1, "b": 2, "z": 2, "a": 3}
"""Which channel FFmpeg takes for which: the first that the file has for each place."""
_COLOURS = {0, 1, 2}
_TAIL_OF_CHANNEL = 16
"""Bytes behind a channel's name: type, linearity, sampling."""

_FLAGS_MULTIPART = 0x1000
_FLAG_TILED = 0x200
_TILE_PLACE = 16
_LINE_PLACE = 4
"""Bytes that say where a chunk belongs, ahead of its size."""


def why_not(data: bytes) -> str | None:
    """Why FFmpeg finds no picture in the OpenEXR file ``data``, where channels' names are why."""
    taken, others = _sorted_channels(data)
    colours = _COLOURS & set(taken)
    if colours == _COLOURS or (colours == {1} and taken[1].lower() == _LUMA):
        return None
    names = sorted([*taken.values(), *others])
    if not names:
        return None  # FFmpeg says what is wrong
    return f"its channels are {', '.join(names)}: it needs R, G and B, or Y, to be read"


def rate(data: bytes) -> Fraction | None:
    """Frames a second; None if the file does not say."""
    with suppress(struct.error, ZeroDivisionError):
        return Fraction(*struct.unpack("<iI", _values(data).get(_RATE, b"")))
    return None


def losses(data: bytes) -> Iterator[str]:
    """A line for each thing of the picture's own that is not carried on."""
    if others := _sorted_channels(data)[1]:
        yield f"the pictures' other channels are not carried on: {', '.join(others)}"
    with suppress(struct.error):
        said = struct.unpack("<8f", _values(data).get(_PRIMARIES, b""))
        if any(abs(one - other) > _SAME for one, other in zip(said, _BT709, strict=True)):
            yield (
                "the pictures' chromaticities are not carried on: "
                "readers take their colours for BT.709's"
            )


def headers(data: bytes) -> list[str]:
    """The names of attributes that tell of the picture; those of one program or kind are one."""
    names = [
        name.partition("/")[0].partition(":")[0]
        for name, value in _values(data).items()
        if name not in _STRUCTURE | {_RATE, _PRIMARIES} and value.strip(b"\0 ")
    ]
    return list(dict.fromkeys(names))


def is_complete(data: bytes) -> bool:
    """Whether every chunk of the OpenEXR file ``data`` lies within it."""
    try:
        (version,) = struct.unpack_from("<I", data, 4)
        if version & _FLAGS_MULTIPART:
            return True  # several headers, which FFmpeg reads itself
        *_, (_, _, end) = _attributes(data)
        chunks = _chunks(data, end + 1)
        place = _TILE_PLACE if version & _FLAG_TILED else _LINE_PLACE
        return all(_holds(data, chunk + place) for chunk in chunks) and min(chunks) > 0
    except (struct.error, ValueError, OverflowError):  # no place in a file is beyond 63 bits
        return False


def _holds(data: bytes, position: int) -> bool:
    """Whether a size stands at ``position``, and that many bytes behind it."""
    (size,) = struct.unpack_from("<I", data, position)
    return position + 4 + int(size) <= len(data)


def _attributes(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Name and value of each attribute, and where it ends.

    Raises:
        ValueError: the header is cut short.
        struct.error: likewise.
    """
    position = 8
    while data[position : position + 1] != b"\0":
        kind = data.index(b"\0", position) + 1
        value = data.index(b"\0", kind) + 1
        (size,) = struct.unpack_from("<I", data, value)
        name = data[position : kind - 1].decode("latin-1")
        position = value + 4 + int(size)
        yield name, data[value + 4 : position], position


def _values(data: bytes) -> dict[str, bytes]:
    """The attributes of the first header, as far as they are whole."""
    found = dict[str, bytes]()
    with suppress(ValueError, struct.error):
        for name, value, end in _attributes(data):
            if end <= len(data):
                found[name] = value
    return found


def _sorted_channels(data: bytes) -> tuple[dict[int, str], list[str]]:
    """Channels that FFmpeg takes, by their places, and the names of the others."""
    taken, others, rest = dict[int, str](), list[str](), _values(data).get("channels", b"")
    while rest[:1] not in (b"", b"\0"):
        head, _, rest = rest.partition(b"\0")
        rest, name = rest[_TAIL_OF_CHANNEL:], head.decode("latin-1")
        place = _PLACES.get(name.lower())
        if place is None or place in taken:
            others.append(name)
        else:
            taken[place] = name
    return taken, others


def _chunks(data: bytes, table: int) -> list[int]:
    """The places in the table, which ends where the first chunk begins."""
    places, first = list[int](), len(data)
    while table < first:
        (place,) = struct.unpack_from("<Q", data, table)
        places.append(place)
        first = min(first, place)
        table += 8
    return places
