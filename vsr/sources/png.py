"""A PNG without its colour profile, which PyAV 19 cannot hand on without crashing.

The profile's name becomes metadata of FFmpeg's side data, and PyAV frees it once more than FFmpeg
does as soon as anybody has looked at the frame's side data.

Source: PNG (third edition), section 5: a signature of 8 bytes, then chunks of a length, a type,
that many bytes, and a checksum.
"""

import struct

__all__ = ["without_profile"]

_SIGNATURE = 8
_FRAMING = 12
"""Bytes of a chunk beside its content."""


def without_profile(data: bytes) -> tuple[bytes, bool]:
    """The PNG file ``data`` without its chunk ``iCCP``, and whether it had one."""
    position = _SIGNATURE
    while position + _FRAMING <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"iCCP":
            return data[:position] + data[position + _FRAMING + length :], True
        if kind == b"IDAT":  # the profile would stand before it
            break
        position += _FRAMING + length
    return data, False
