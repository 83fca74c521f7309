"""What the headers of a DPX file say that FFmpeg passes over.

FFmpeg's decoder takes lines to follow each other closely, whatever the header says of bytes between
them, and makes a sheared picture where there are some.

Source: SMPTE ST 268-1:2014 (before it, SMPTE 268M-2003): fields at fixed places, whose byte order
the file's first bytes tell; undefined ones have all bits set.
"""

import struct

__all__ = ["why_not"]

_ORDERS = {b"SDPX": ">", b"XPDS": "<"}
_FILE_OFFSET, _WIDTH, _HEIGHT = 4, 772, 776
_DESCRIPTOR, _BITS, _PACKING, _ENCODING = 800, 803, 804, 806
_OFFSET, _LINE_PADDING = 808, 812
"""Of the first picture element, the only one that is read."""
_UNDEFINED = 0xFFFFFFFF
_SAMPLES = {6: 1, 50: 3, 51: 4, 52: 4, 100: 2, 101: 3, 102: 3, 103: 4}
"""Samples a pixel, by descriptor: luma, RGB, RGBA, ABGR, and YCbCr of four kinds."""
_WORD = 4
"""Bytes of which a line has a whole number."""


def why_not(data: bytes) -> str | None:
    """Why FFmpeg does not decode the DPX file ``data``, though it may not say so."""
    if _number(data, _ENCODING, "H") == 1:
        return "it is compressed by run lengths, which is not read in DPX"
    if padding := _padding(data):
        return f"each line is followed by {padding} bytes of padding, which is not read in DPX"
    return None


def _padding(data: bytes) -> int:
    """Bytes behind each line; 0 where there are none, whatever the header may say."""
    padding = _number(data, _LINE_PADDING, "I")
    length, height = _bytes_of_line(data), _number(data, _HEIGHT, "I")
    if padding in (0, _UNDEFINED) or not length or not height:
        return 0
    offset = _number(data, _OFFSET, "I")
    if offset in (0, _UNDEFINED):
        offset = _number(data, _FILE_OFFSET, "I")
    pitch = -(-length // _WORD) * _WORD  # as FFmpeg reads it
    for padded in (length + padding, pitch + padding):
        # Behind the last line padding may be missing, and a little of something else may be.
        beyond = len(data) - offset - padded * height
        if padded != pitch and -padding <= beyond < padded:
            return padding
    return 0


def _bytes_of_line(data: bytes) -> int:
    """Bytes that a line's samples fill; 0 if that is not known."""
    bits, packing = _number(data, _BITS, "B"), _number(data, _PACKING, "H")
    samples = _number(data, _WIDTH, "I") * _SAMPLES.get(_number(data, _DESCRIPTOR, "B"), 0)
    if bits in (10, 12) and packing == 0:
        return -(-samples * bits // 32) * _WORD
    if bits == 10:
        return -(-samples // 3) * _WORD
    return samples * {8: 1, 12: 2, 16: 2}.get(bits, 0)


def _number(data: bytes, place: int, form: str) -> int:
    """The field at ``place``; 0 if the file does not reach so far."""
    try:
        (number,) = struct.unpack_from(_ORDERS[data[:4]] + form, data, place)
    except (struct.error, KeyError):
        return 0
    return int(number)
