"""The frame rate in DPX: FFmpeg's encoder leaves out the headers that have a place for it.

Source: SMPTE ST 268-1:2014: behind the headers of every file one of film and one of television, in
the byte order of the rest; what is undefined has all bits set, and text is empty.
"""

import struct
from fractions import Fraction

__all__ = ["with_rate"]

_ORDERS = {b"SDPX": ">", b"XPDS": "<"}
_BEGIN, _END = 1664, 2048
"""Of the headers of film and television."""
_PLACES = (4, 16, 808)
"""Fields that grow with them: where samples begin, the size of the file, the first element."""
_SIZE = 28
"""The field with the bytes of both."""
_TEXTS = ((1664, 48), (1732, 132), (1864, 56), (1931, 1), (1972, 76))
"""Text and reserved bytes, which are 0 where nothing is said: places and sizes."""
_RATES = (1724, 1940)
"""Fields with the rate: of film, of television."""


def with_rate(picture: bytes, rate: Fraction) -> bytes:
    """The DPX file ``picture`` with ``rate``, in frames a second, in both headers.

    Args:
        picture: a file of FFmpeg's encoder, whose samples follow the headers of every file. One
            that begins otherwise is returned as it is.
        rate: above 0.
    """
    order = _ORDERS.get(picture[:4])
    if order is None or struct.unpack_from(f"{order}I", picture, _PLACES[0]) != (_BEGIN,):
        return picture
    size = _END - _BEGIN
    data = bytearray(picture[:_BEGIN] + b"\xff" * size)
    for place, length in _TEXTS:
        data[place : place + length] = bytes(length)
    for place in _PLACES:
        (value,) = struct.unpack_from(f"{order}I", data, place)
        struct.pack_into(f"{order}I", data, place, value + size)
    struct.pack_into(f"{order}I", data, _SIZE, size)
    for place in _RATES:
        struct.pack_into(f"{order}f", data, place, rate)
    return bytes(data) + picture[_BEGIN:]
