"""Colour tags and field orders by number, and FFmpeg's words for them.

Numbers of colour tags are those of ITU-T H.273 (which FFmpeg shares); ranges, sitings and field
orders are FFmpeg's. Nothing here imports torch.
"""

from collections.abc import Mapping
from enum import IntEnum

__all__ = [
    "COLOUR_OPTIONS",
    "FIELD_ORDERS",
    "MATRICES",
    "PRIMARIES",
    "RANGES",
    "SITINGS",
    "TRANSFERS",
    "FieldOrder",
    "Matrix",
    "Range",
    "Siting",
    "word_for",
]


class Matrix(IntEnum):
    """Matrix coefficients, H.273 table 4."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020_NCL = 9


class Range(IntEnum):
    """Quantisation range, numbered as FFmpeg's ``AVCOL_RANGE``."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


class Siting(IntEnum):
    """Position of a chroma sample in its block of luma samples, FFmpeg's ``AVCHROMA_LOC``."""

    UNSPECIFIED = 0
    LEFT = 1
    CENTRE = 2
    TOP_LEFT = 3
    TOP = 4
    BOTTOM_LEFT = 5
    BOTTOM = 6

    @property
    def horizontally_centred(self) -> bool:
        """Whether chroma lies between luma columns rather than on the left one."""
        return self in (Siting.CENTRE, Siting.TOP, Siting.BOTTOM)

    @property
    def vertical(self) -> float:
        """Vertical position in the block: 0 on its first row, 1 on its last."""
        if self in (Siting.TOP_LEFT, Siting.TOP):
            return 0.0
        return 1.0 if self in (Siting.BOTTOM_LEFT, Siting.BOTTOM) else 0.5


class FieldOrder(IntEnum):
    """Order of the two fields of a frame, FFmpeg's ``AVFieldOrder``.

    FFmpeg documents TB and BT as "coded first, shown first"; its decoders and muxers go by the
    first letter alone, and so do the files of DV cameras, which say BT and are bottom first.
    """

    UNKNOWN = 0
    PROGRESSIVE = 1
    TT = 2
    BB = 3
    TB = 4
    BT = 5

    @property
    def interlaced(self) -> bool:
        """Whether a frame is two fields of different times."""
        return self > FieldOrder.PROGRESSIVE

    @property
    def top_first(self) -> bool:
        """Whether the field of the even lines is shown first."""
        return self in (FieldOrder.TT, FieldOrder.TB)


# FFmpeg's words, as its options -colorspace, -color_primaries, … take them; the first word of a
# number is the one that is shown.
MATRICES = {
    "rgb": 0, "bt709": 1, "unknown": 2, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7,
    "ycgco": 8, "bt2020nc": 9, "bt2020_ncl": 9,
}  # fmt: skip
PRIMARIES = {
    "bt709": 1, "unknown": 2, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "film": 8,
    "bt2020": 9, "smpte428": 10, "smpte431": 11, "smpte432": 12, "ebu3213": 22, "jedec-p22": 22,
}  # fmt: skip
TRANSFERS = {
    "bt709": 1, "unknown": 2, "gamma22": 4, "gamma28": 5, "bt470m": 4, "bt470bg": 5,
    "smpte170m": 6, "smpte240m": 7, "linear": 8, "log100": 9, "log": 9, "log316": 10,
    "log_sqrt": 10, "iec61966-2-4": 11, "bt1361e": 12, "iec61966-2-1": 13, "bt2020-10": 14,
    "bt2020_10bit": 14, "bt2020-12": 15, "bt2020_12bit": 15, "smpte2084": 16, "smpte428": 17,
    "arib-std-b67": 18,
}  # fmt: skip
RANGES = {"tv": 1, "pc": 2, "limited": 1, "full": 2, "mpeg": 1, "jpeg": 2}
SITINGS = {"left": 1, "center": 2, "topleft": 3, "top": 4, "bottomleft": 5, "bottom": 6}
FIELD_ORDERS = {"progressive": 1, "tt": 2, "bb": 3, "tb": 4, "bt": 5}

COLOUR_OPTIONS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "matrix": ("-colorspace", MATRICES),
    "range": ("-color_range", RANGES),
    "primaries": ("-color_primaries", PRIMARIES),
    "transfer": ("-color_trc", TRANSFERS),
    "siting": ("-chroma_sample_location", SITINGS),
}
"""By property of a colour: FFmpeg's option that states it, and the words that it takes."""


def word_for(words: Mapping[str, int], number: int) -> str:
    """FFmpeg's word for ``number``, or the number itself where there is none."""
    return next((word for word, value in words.items() if value == number), str(number))
