"""ICC profiles: what colours the numbers of a picture stand for, carried from file to file.

FFmpeg writes the profile that a frame carries, but PyAV lets nobody attach one. So a profile is put
into the file that FFmpeg's encoder has made.

Sources: ICC.1:2022, section 7.2 (the header) and annex B (its place in TIFF); PNG (third edition),
sections 5.3 (chunks), 11.3.2.3 (``iCCP``) and 4.3 (which of several descriptions counts);
TIFF 6.0, section 2 (directories).
"""

import struct
import zlib
from collections.abc import Callable, Mapping

from vsr.frame import PixelFormat

__all__ = ["embed", "why_not"]

_HEADER = 128
_MARK = slice(36, 40)
_SPACE = slice(16, 20)
_SPACES = {"rgb": b"RGB ", "gray": b"GRAY"}
"""Of samples of each family, as a profile's header says it."""
_SIGNATURE = 8
_FRAMING = 12
"""Bytes of a PNG's chunk beside its content."""
_OVERRULED = (b"sRGB", b"gAMA", b"cHRM", b"cICP")
"""Chunks that tell readers of PNG something else; ours are FFmpeg's, from tags less exact."""
_IFD_ENTRY = 12
_TIFF_TAG = 34675
_UNDEFINED = 7
"""The type of bytes without a meaning to TIFF."""


def why_not(profile: bytes, codec: str, format: PixelFormat) -> str | None:
    """Why ``profile`` cannot be in pictures of FFmpeg's encoder ``codec``; None if it can."""
    if codec not in _WRITERS:
        return f"{codec} pictures hold none"
    if len(profile) < _HEADER or profile[_MARK] != b"acsp":
        return "it is damaged"
    space = profile[_SPACE]
    if space != _SPACES.get(format.family):
        return f"it is for {space.decode('latin-1').strip()}, not for {format.family} pictures"
    return None


def embed(profile: bytes, codec: str, picture: bytes) -> bytes:
    """The file ``picture``, of FFmpeg's encoder ``codec``, with ``profile`` in it.

    Only where :func:`why_not` is None.
    """
    return _WRITERS[codec](picture, profile)


def _into_png(picture: bytes, profile: bytes) -> bytes:
    """Behind the header, in place of what describes colours otherwise."""
    parts, position = [picture[:_SIGNATURE]], _SIGNATURE
    while position < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, position)
        end = position + _FRAMING + length
        if kind not in _OVERRULED:
            parts.append(picture[position:end])
        if kind == b"IHDR":
            content = b"ICC profile\0\0" + zlib.compress(profile)
            parts.append(_chunk(b"iCCP", content))
        if kind == b"IDAT":  # descriptions come before it
            return b"".join([*parts, picture[end:]])
        position = end
    return b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _into_tiff(picture: bytes, profile: bytes) -> bytes:
    """A new directory at the end, of the same entries and one more; the old one is not used."""
    order = "<" if picture.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", picture, 4)
    (count,) = struct.unpack_from(f"{order}H", picture, place)
    begin = place + 2
    entries = [
        picture[at : at + _IFD_ENTRY] for at in range(begin, begin + count * _IFD_ENTRY, _IFD_ENTRY)
    ]
    body = picture + b"\0" * (len(picture) % 2)  # directories begin at words
    directory = len(body)
    behind = directory + 2 + (count + 1) * _IFD_ENTRY + 4
    entries.append(struct.pack(f"{order}HHII", _TIFF_TAG, _UNDEFINED, len(profile), behind))
    entries.sort(key=lambda entry: struct.unpack_from(f"{order}H", entry)[0])
    head = body[:4] + struct.pack(f"{order}I", directory)
    return b"".join(
        [head, body[8:], struct.pack(f"{order}H", count + 1), *entries, b"\0" * 4, profile]
    )


_WRITERS: Mapping[str, Callable[[bytes, bytes], bytes]] = {"png": _into_png, "tiff": _into_tiff}
"""By FFmpeg's encoder."""
