"""What the headers of a DPX file say, most of which FFmpeg passes over.

FFmpeg's decoder takes lines to follow each other closely, whatever the header says of bytes between
them, and makes a sheared picture where there are some. It does not turn pictures as the header
says, and knows neither printing density nor logarithmic samples.

Source: SMPTE ST 268-1:2014 (before it, SMPTE 268M-2003): fields at fixed places, whose byte order
the file's first bytes tell; undefined ones have all bits set, or are 0.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["headers", "losses", "rate", "why_not"]

_ORDERS = {b"SDPX": ">", b"XPDS": "<"}
_DATA_OFFSET, _ORIENTATION, _WIDTH, _HEIGHT = 4, 768, 772, 776
_DESCRIPTOR, _TRANSFER, _BITS, _PACKING, _ENCODING = 800, 801, 803, 804, 806
_OFFSET, _LINE_PADDING = 808, 812
"""Of the first picture element, the only one that is read."""
_FILM_RATE, _TELEVISION_RATE = 1724, 1940
_HEADERS = 2048
"""Bytes of all headers, if none is left out."""
_BESIDE = {
    "date": (136, 24), "Creator": (160, 100), "Project": (260, 200), "Copyright": (460, 200),
    "Input Device": (1556, 32), "key code": (1664, 16), "timecode": (1920, 4),
}  # fmt: skip
"""Where each of them lies, and in how many bytes."""
_BLANK = b"\0\xff "
_UNDEFINED = 0xFFFFFFFF
_SAMPLES = {6: 1, 50: 3, 51: 4, 52: 4, 100: 2, 101: 3, 102: 3, 103: 4}
"""Samples a pixel, by descriptor: luma, RGB, RGBA, ABGR, and YCbCr of four kinds."""
_WORD = 4
"""Bytes of which a line has a whole number."""
_TRANSFERS = {1: "printing density", 3: "logarithmic"}
_ORIENTATIONS = {
    1: ("pixels run from right to left", "hflip"),
    2: ("lines run from bottom to top", "vflip"),
    3: ("pixels run from right to left, lines from bottom to top", "hflip,vflip"),
    4: ("lines are columns, from left to right", "transpose=0"),
    5: ("lines are columns, from right to left", "transpose=1"),
    6: ("lines are columns from bottom to top, from left to right", "transpose=2"),
    7: ("lines are columns from bottom to top, from right to left", "transpose=3"),
}
"""What is said of how pictures lie, and the filters that turn them upright."""


@dataclass(frozen=True, slots=True)
class _Header:
    data: bytes
    """What lies ahead of the samples."""
    order: str
    """As in ``struct``; empty if this is no DPX."""

    def number(self, place: int, form: str = "I") -> int:
        """The unsigned field at ``place``; 0 if the headers do not reach so far."""
        if not self.order or len(self.data) < place + struct.calcsize(form):
            return 0
        (found,) = struct.unpack_from(self.order + form, self.data, place)
        return int(found)

    def real(self, place: int) -> float | None:
        """The floating-point field at ``place``; None if it is undefined, or below 0."""
        (found,) = struct.unpack("f", struct.pack("I", self.number(place)))
        return float(found) if math.isfinite(found) and found > 0 else None


def why_not(data: bytes) -> str | None:
    """Why FFmpeg does not decode the DPX file ``data``, though it may not say so."""
    header = _header(data)
    if header.number(_ENCODING, "H") == 1:
        return "it is compressed by run lengths, which is not read in DPX"
    if padding := _padding(header, len(data)):
        return f"each line is followed by {padding} bytes of padding, which is not read in DPX"
    return None


def rate(data: bytes) -> float | None:
    """Frames a second by the header of film, else by that of television; None if neither says."""
    header = _header(data)
    return header.real(_FILM_RATE) or header.real(_TELEVISION_RATE)


def losses(data: bytes) -> Iterator[str]:
    """A line for each thing that the headers say of the picture, and that is not obeyed."""
    header = _header(data)
    if meaning := _TRANSFERS.get(header.number(_TRANSFER, "B")):
        yield (
            f"the pictures are tagged {meaning}: the network sees it as it is, "
            "and the result does not say it"
        )
    if found := _ORIENTATIONS.get(header.number(_ORIENTATION, "H")):
        lie, filters = found
        yield (
            f"the pictures' headers say that {lie}: they are taken as they lie "
            f"(--vf {filters} turns them)"
        )


def headers(data: bytes) -> list[str]:
    """The names of what is written beside the picture, but for what is blank."""
    header = _header(data).data
    return [name for name, (at, size) in _BESIDE.items() if header[at : at + size].strip(_BLANK)]


def _header(data: bytes) -> _Header:
    order = _ORDERS.get(data[:4], "")
    first = _Header(data[:_HEADERS], order)
    return _Header(first.data[: first.number(_DATA_OFFSET)], order)


def _padding(header: _Header, size: int) -> int:
    """Bytes behind each line of a file of ``size`` bytes; 0 where there are none, said or not."""
    padding = header.number(_LINE_PADDING)
    length, height = _bytes_of_line(header), header.number(_HEIGHT)
    if padding in (0, _UNDEFINED) or not length or not height:
        return 0
    offset = header.number(_OFFSET)
    if offset in (0, _UNDEFINED):
        offset = header.number(_DATA_OFFSET)
    pitch = -(-length // _WORD) * _WORD  # as FFmpeg reads it
    for padded in (length + padding, pitch + padding):
        # Behind the last line padding may be missing, and a little of something else may be.
        beyond = size - offset - padded * height
        if padded != pitch and -padding <= beyond < padded:
            return padding
    return 0


def _bytes_of_line(header: _Header) -> int:
    """Bytes that a line's samples fill; 0 if that is not known."""
    bits, packing = header.number(_BITS, "B"), header.number(_PACKING, "H")
    samples = header.number(_WIDTH) * _SAMPLES.get(header.number(_DESCRIPTOR, "B"), 0)
    if bits in (10, 12) and packing == 0:
        return -(-samples * bits // 32) * _WORD
    if bits == 10:
        return -(-samples // 3) * _WORD
    return samples * {8: 1, 12: 2, 16: 2}.get(bits, 0)
