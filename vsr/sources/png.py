"""What chunks say of a PNG file: whether it is an animation, and its colour profile.

PyAV 19 cannot hand a profile on without crashing: its name becomes metadata of FFmpeg's side data,
and PyAV frees it once more than FFmpeg does as soon as anybody has looked at the frame's side data.

Source: PNG (third edition), section 5: a signature of 8 bytes, then chunks of a length, a type,
that many bytes, and a checksum.
"""

import struct
import zlib
from collections.abc import Iterator

__all__ = ["is_animated", "overrules_profile", "profile", "without_profile"]

_SIGNATURE = 8
_FRAMING = 12
"""Bytes of a chunk beside its content."""
_LARGEST_PROFILE = 16 << 20
"""Bytes; those of printers take two million."""


def without_profile(data: bytes) -> bytes:
    """The PNG file ``data`` without chunks ``iCCP``, of which there should be one at most."""
    kept, done = list[bytes](), 0
    for kind, begin, end in _chunks(data):
        if kind == b"iCCP":
            kept.append(data[done:begin])
            done = end
    return b"".join([*kept, data[done:]]) if kept else data


def profile(data: bytes) -> bytes | None:
    """The ICC profile of the PNG file ``data``: None if it has none, empty if it is damaged."""
    for kind, begin, end in _chunks(data):
        if kind == b"iCCP":
            return _inflated(data[begin + 8 : end - 4])
    return None


def overrules_profile(data: bytes) -> bool:
    """Whether the PNG file ``data`` has a chunk ``cICP``, which counts before a profile."""
    return any(kind == b"cICP" for kind, _, _ in _chunks(data))


def _inflated(content: bytes) -> bytes:
    """The profile in a chunk ``iCCP``: a name, 0, the method 0, and zlib's data; empty if bad."""
    _, _, packed = content.partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(packed[1:], _LARGEST_PROFILE)
    except zlib.error:
        return b""
    return found if unpacking.eof else b""


def is_animated(data: bytes) -> bool:
    """Whether the PNG file ``data`` (its head is enough) has several frames, by its ``acTL``."""
    begin = next((begin for kind, begin, _ in _chunks(data) if kind == b"acTL"), None)
    return begin is not None and int.from_bytes(data[begin + 8 : begin + 12], "big") > 1


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the chunks ahead of the picture's samples."""
    position = _SIGNATURE
    while position + _FRAMING <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            return
        yield kind, position, position + _FRAMING + length
        position += _FRAMING + length
