"""What the directory of a TIFF file says, where FFmpeg would make another picture of it.

FFmpeg's decoder knows neither tiles nor JPEG's compression and returns black for them, takes
half-precision floats and signed numbers for unsigned integers, integers of 32 bits for floats, and
CMYK for RGB with alpha, and leaves what a cut file lacks black, all without a word. Nor does it say
whether colours are multiplied by alpha.

Source: TIFF 6.0 (Adobe, 1992), section 2: a byte order, then directories of entries of 12 bytes, a
tag, a type, a count, and the values or where they lie; tags in part 1 and in sections 15, 16, 18,
19 and 22; half floats by TIFF Technical Note 3.
"""

import struct
from collections.abc import Iterator, Mapping

__all__ = ["is_complete", "is_multiplied", "pages", "why_not"]

_Directory = Mapping[int, tuple[int, ...]]

_COMPRESSION, _STRIP_OFFSETS, _STRIP_BYTES, _TILE_WIDTH = 259, 273, 279, 322
_BITS, _SAMPLE_FORMAT, _REDUCED = 258, 339, 254
_PHOTOMETRIC, _SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 262, 277, 338
_IFD_ENTRY = 12
_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of the entries that are read here: bytes, and unsigned integers of 2 and 4."""
_READ_BY_FFMPEG = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925}
"""None, CCITT's three, LZW, deflate by both of its numbers, PackBits, LZMA."""
_NAMES = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 50000: "Zstandard", 50001: "WebP"}
_UNREAD_COLOURS = {5: "CMYK", 8: "CIE L*a*b*", 9: "CIE L*a*b*", 10: "CIE L*a*b*"}
_DEPTHS = {1: (1, 2, 4, 8, 12, 16), 2: (8, 16), 3: (8, 16, 32), 4: (8, 16, 32)}
"""Bits of a sample that FFmpeg reads in gray and RGB, by the number of samples a pixel."""
_GRAY_OR_RGB = (0, 1, 2)
_SIGNED, _FLOATING = 2, 3
_HALF, _SINGLE = 16, 32
_MULTIPLIED = 1
"""The kind of extra sample that is alpha by which the colours are multiplied."""


def why_not(data: bytes) -> str | None:
    """Why FFmpeg does not decode the TIFF file ``data``, though it may not say so."""
    first = next(_directories(data), {})  # if there is none, FFmpeg says what is wrong
    if _TILE_WIDTH in first:
        return "it is in tiles, which are not read: make one in strips (tiffcp -s)"
    compression = _one(first, _COMPRESSION, 1)
    if compression not in _READ_BY_FFMPEG:
        named = _NAMES.get(compression, f"compression {compression}")
        return f"it is compressed by {named}, which is not read in TIFF (tiffcp -c lzw changes it)"
    photometric = _one(first, _PHOTOMETRIC, 0)
    if photometric in _UNREAD_COLOURS:
        return f"its colours are {_UNREAD_COLOURS[photometric]}, which is not read: make them RGB"
    return _why_not_samples(first) if photometric in _GRAY_OR_RGB else None


def _why_not_samples(first: _Directory) -> str | None:
    """Why samples of gray or RGB are not decoded as what they are."""
    kinds, count = first.get(_SAMPLE_FORMAT, ()), _one(first, _SAMPLES_PER_PIXEL, 1)
    bits = max(first.get(_BITS, (0,)))
    if _SIGNED in kinds:
        what = "signed integers"
    elif _FLOATING in kinds and bits == _HALF:
        what = "floating-point numbers of 16 bits"
    elif _FLOATING not in kinds and bits == _SINGLE:
        what = "integers of 32 bits"
    elif bits and bits not in _DEPTHS.get(count, (bits,)):
        what = f"of {bits} bits"
    else:
        return None
    return f"its samples are {what}, which are not read in TIFF"


def is_multiplied(data: bytes) -> bool:
    """Whether the colours of the TIFF file ``data`` are multiplied by its alpha."""
    return _one(next(_directories(data), {}), _EXTRA_SAMPLES, 0) == _MULTIPLIED


def is_complete(data: bytes) -> bool:
    """Whether all strips of the first picture lie within the TIFF file ``data``."""
    first = next(_directories(data), {})
    places, sizes = first.get(_STRIP_OFFSETS, ()), first.get(_STRIP_BYTES, ())
    return all(place + size <= len(data) for place, size in zip(places, sizes, strict=False))


def pages(data: bytes) -> int:
    """Pictures in the TIFF file ``data``, smaller copies of others left out."""
    return sum(not directory.get(_REDUCED, (0,))[0] & 1 for directory in _directories(data))


def _one(directory: _Directory, tag: int, default: int) -> int:
    """The first value of ``tag``."""
    return directory.get(tag, (default,))[0]


def _directories(data: bytes) -> Iterator[_Directory]:
    """All directories that can be read, each once; those of BigTIFF are none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    visited = {0}  # which stands for the end
    while place not in visited:
        visited.add(place)
        try:
            directory, place = _directory(data, order, place)
        except struct.error:  # beyond the end of the file
            return
        yield directory


def _directory(data: bytes, order: str, place: int) -> tuple[_Directory, int]:
    """The entries at ``place`` that hold numbers, and where the next directory begins."""
    (count,) = struct.unpack_from(f"{order}H", data, place)
    entries: dict[int, tuple[int, ...]] = {}
    for position in range(place + 2, place + 2 + count * _IFD_ENTRY, _IFD_ENTRY):
        tag, kind, amount = struct.unpack_from(f"{order}HHI", data, position)
        if kind in _NUMBERS and 0 < amount * struct.calcsize(_NUMBERS[kind]) <= len(data):
            entries[tag] = _values(data, order, position + 8, f"{amount}{_NUMBERS[kind]}")
    (following,) = struct.unpack_from(f"{order}I", data, place + 2 + count * _IFD_ENTRY)
    return entries, following


def _values(data: bytes, order: str, position: int, form: str) -> tuple[int, ...]:
    """Numbers that stand at ``position``, or where a number there says, if they need more room."""
    if struct.calcsize(order + form) > 4:
        (position,) = struct.unpack_from(f"{order}I", data, position)
    return struct.unpack_from(order + form, data, position)
