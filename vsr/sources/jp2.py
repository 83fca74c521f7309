"""What the boxes of a JPEG 2000 file say of colour, which FFmpeg's decoder does not hand on.

Source: ISO/IEC 15444-1 (ITU-T T.800), annex I: boxes of a length, a type and a content; a header
box ``jp2h`` holds others, of which ``colr`` names a colour space or has an ICC profile.
"""

import struct
from collections.abc import Iterator

__all__ = ["is_sycc", "profile"]

_SIGNATURE = b"\0\0\0\x0cjP  "
_ENUMERATED, _RESTRICTED_ICC, _ANY_ICC = 1, 2, 3
_SYCC = 18
"""IEC 61966-2-1, amendment 1: BT.601's matrix, in full range."""


def profile(data: bytes) -> bytes | None:
    """The ICC profile of the file ``data``; None if it has none."""
    for method, content in _colours(data):
        if method in (_RESTRICTED_ICC, _ANY_ICC):
            return content
    return None


def is_sycc(data: bytes) -> bool:
    """Whether the file ``data`` says that its samples are sYCC."""
    return (_ENUMERATED, _SYCC.to_bytes(4, "big")) in _colours(data)


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
