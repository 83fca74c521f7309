"""Takes Apple's description of 3D and 360° out of an MP4 that has another beside it.

Beside ``st3d`` and ``sv3d``, which players and sites read, FFmpeg's muxer writes a box ``vexu``
that says less. FFmpeg's reader lets that count more, and finds neither pose nor two views. The box
becomes free space, so that nothing in the file moves (ISO/IEC 14496-12, 8.1.2).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_apples_box", "patched_head"]

_HEADER = struct.Struct(">I4s")
_LONG = struct.Struct(">Q")
_WAY = (b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_BEFORE_ENTRIES = 8  # version, flags and number of them
_VISUAL_ENTRY = 78  # bytes of a sample entry before its boxes (12.1.3)


def free_apples_box(path: Path) -> None:
    """Free the boxes in a finished file.

    Args:
        path: an MP4 that FFmpeg wrote; changed in place.

    Raises:
        ValueError: it has no header; it has not been touched.
        OSError: reading or writing failed.
    """
    with path.open("r+b") as file:
        position = 0
        while len(head := file.read(_HEADER.size + _LONG.size)) >= _HEADER.size:
            size, kind = _HEADER.unpack_from(head)
            if size == 1 and len(head) == _HEADER.size + _LONG.size:
                size = _LONG.unpack_from(head, _HEADER.size)[0]
            if size < _HEADER.size:
                break
            file.seek(position)
            if kind == b"moov":
                freed = _freed(file.read(size))
                file.seek(position)
                file.write(freed)
                return
            position += size
            file.seek(position)
    raise ValueError("it has no header")


def patched_head(data: bytes) -> bytes | None:
    """The beginning of a file without the boxes, of the same length.

    Args:
        data: the first bytes of the file, the header before the samples.

    Returns:
        ``data`` with the change; None if it ends within the header.
    """
    for start, end, kind in _boxes(data, 0, len(data)):
        if kind == b"moov":
            return data[:start] + _freed(data[start:end]) + data[end:]
    return None


def _freed(moov: bytes) -> bytes:
    """The box ``moov`` without Apple's description."""
    changed = bytearray(moov)
    places = [(_HEADER.size, len(moov))]
    for wanted in _WAY:
        inner = (box for begin, end in places for box in _boxes(moov, begin, end))
        places = [(start + _HEADER.size, end) for start, end, kind in inner if kind == wanted]
    for begin, end in places:
        for entry, entry_end, _ in _boxes(moov, begin + _BEFORE_ENTRIES, end):
            inside = entry + _HEADER.size + _VISUAL_ENTRY
            for start, _, kind in _boxes(moov, inside, entry_end):
                if kind == b"vexu":
                    changed[start + 4 : start + 8] = b"free"
    return bytes(changed)


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and type of each complete box between ``begin`` and ``end``."""
    while begin + _HEADER.size <= end:
        size, kind = _HEADER.unpack_from(data, begin)
        if size < _HEADER.size or begin + size > end:
            return
        yield begin, begin + size, kind
        begin += size
