"""What FFmpeg's decoder of JPEG 2000 does not hand on: what the boxes say of colour, and damage.

Source: ISO/IEC 15444-1 (ITU-T T.800), annex I: boxes of a length, a type and a content; a header
box ``jp2h`` holds others, of which ``colr`` names a colour space or has an ICC profile.
"""

import re
import struct
from collections.abc import Iterator

from av.logging import ERROR

__all__ = ["is_sycc", "profile", "tells_damage"]

_SIGNATURE = b"\0\0\0\x0cjP  "
_ENUMERATED, _RESTRICTED_ICC, _ANY_ICC = 1, 2, 3
_SYCC = 18
"""IEC 61966-2-1, amendment 1: BT.601's matrix, in full range."""

_BYTES_LEFT = re.compile(r"(?:End|Mid) mismatch (-?\d+)")
"""A block of coefficients was decoded, and so many of its bytes were not needed for it."""
_MOST_LEFT = 5
"""Bytes up to which encoders may round a block up; OpenJPEG leaves one in some of its modes."""
_UNKNOWN_PART = "unsupported marker"
"""What is said of parts of a file that are skipped, such as comments of newer kinds."""


def profile(data: bytes) -> bytes | None:
    """The ICC profile of the file ``data``; None if it has none."""
    for method, content in _colours(data):
        if method in (_RESTRICTED_ICC, _ANY_ICC):
            return content
    return None


def is_sycc(data: bytes) -> bool:
    """Whether the file ``data`` says that its samples are sYCC."""
    return (_ENUMERATED, _SYCC.to_bytes(4, "big")) in _colours(data)


def tells_damage(level: int, text: str) -> bool:
    """Whether a message of FFmpeg's decoder means that its picture is not what was encoded.

    Args:
        level: FFmpeg's.
        text: what it says. Healthy files have it say much, too.
    """
    if left := _BYTES_LEFT.match(text):
        return abs(int(left[1])) > _MOST_LEFT
    return level <= ERROR and not text.startswith(_UNKNOWN_PART)


def _colours(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Method and content of each description of colour; a bare codestream has none."""
    if not data.startswith(_SIGNATURE):
        return
    for kind, content in _boxes(data):
        if kind == b"jp2h":
            for inner, described in _boxes(content):
                if inner == b"colr" and len(described) > 3:
                    yield described[0], described[3:]  # precedence and approximation between


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes in ``data``, as far as they are whole."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1 and position + 16 <= len(data):
            (length,), head = struct.unpack_from(">Q", data, position + 8), 16
        end = len(data) if length == 0 else position + length
        if length and (length < head or end > len(data)):
            return
        yield kind, data[position + head : end]
        position = end
