"""Which colour tags an output carries to its reader, and what the reader takes the others for.

The tables were found by writing and reading back with the FFmpeg of PyAV and with FFmpeg 5.1
(``tests/test_carried.py`` does it again); where a standard is the reason, it stands beside the
line. Codecs go by FFmpeg's canonical names. What a codec or container is not listed with, it does
not carry.
"""

from vsr.encoding.muxers import Y4M, Y4M_SITINGS
from vsr.frame import Colour, Matrix, PixelFormat, Range, Siting

__all__ = [
    "carries",
    "has_number",
    "in_bitstream",
    "in_container",
    "lost_tags",
    "matrices_of",
    "needs_colr",
    "opening_number",
    "range_of",
    "same_place",
    "siting_of",
    "sitings_of",
]

_ALL = frozenset({"matrix", "range", "primaries", "transfer"})
_DESCRIPTION = _ALL - {"range"}
_BITSTREAMS = {
    "h264": _ALL, "hevc": _ALL,  # annex E
    "av1": _ALL,  # color_config, 5.5.2
    "vp9": _ALL - {"primaries", "transfer"},  # color_config
    "mpeg2video": _DESCRIPTION,  # sequence_display_extension
    "prores": _DESCRIPTION,  # SMPTE RDD 36, frame header
}  # fmt: skip
_CONTAINERS = {
    "matroska": _ALL, "webm": _ALL,  # Colour
    "mp4": _ALL,  # colr, nclx
    "mov": _DESCRIPTION,  # colr, nclc
    Y4M: frozenset({"range"}),  # XCOLORRANGE
}  # fmt: skip

_ONE_RANGE = {
    "mjpeg": Range.FULL, "ljpeg": Range.FULL,  # JFIF 1.02
    "png": Range.FULL, "qtrle": Range.FULL,  # gray is read as the bitmap that it is
    "prores": Range.LIMITED, "dnxhd": Range.LIMITED, "mpeg4": Range.LIMITED,
    "mpeg1video": Range.LIMITED, "mpeg2video": Range.LIMITED,
    "vp8": Range.LIMITED, "magicyuv": Range.LIMITED,  # FFmpeg's encoders write no other
}  # fmt: skip
_BT601 = (Matrix.BT470BG, Matrix.SMPTE170M)
_MATRICES = {  # the first is what others are converted to
    "mjpeg": _BT601, "ljpeg": _BT601,  # JFIF 1.02
    "vp8": _BT601,  # RFC 6386, 9.2: color_space 0
    "speedhq": _BT601,  # by FFmpeg's decoder
    "dnxhd": (Matrix.BT709,),  # FFmpeg's encoder leaves the header's colour volume at BT.709
    "utvideo": (Matrix.BT709, *_BT601),  # told by the FourCC
    "vp9": (Matrix.BT709, *_BT601, Matrix.SMPTE240M, Matrix.BT2020_NCL, Matrix.RGB),
}  # fmt: skip
_ONE_SITING = {
    "mjpeg": Siting.CENTRE, "ljpeg": Siting.CENTRE,  # JFIF 1.02
    "mpeg1video": Siting.CENTRE, "h263": Siting.CENTRE, "h263p": Siting.CENTRE,  # the standards
    "speedhq": Siting.CENTRE,  # by FFmpeg's decoder
    "mpeg2video": Siting.LEFT, "mpeg4": Siting.LEFT,  # 6.1.1.8; 6.1.3.7
}  # fmt: skip
_LEFT = (Siting.LEFT,)
_BY_MATROSKA = (Siting.LEFT, Siting.CENTRE, Siting.TOP_LEFT, Siting.TOP)  # ChromaSiting…

# What libx264 and libx265 have numbers for (all were tried): the first leaves out others, so that
# they stand in the container alone; the second does not open.
_X26X = {
    "primaries": frozenset({1, 2, *range(4, 13)}), "transfer": frozenset({1, 2, *range(4, 19)}),
}  # fmt: skip


def in_bitstream(codec: str, tag: str) -> bool:
    """Whether what ``codec`` makes says ``tag`` (a field of a colour but the siting) itself."""
    return tag in _BITSTREAMS.get(codec, ())


def in_container(muxer: str, tag: str) -> bool:
    """Whether the container of FFmpeg's ``muxer`` says ``tag`` of any codec."""
    return tag in _CONTAINERS.get(muxer, ())


def carries(codec: str, muxer: str, tag: str) -> bool:
    """Whether ``codec`` or ``muxer`` tell their reader ``tag``, a field of a colour."""
    return in_bitstream(codec, tag) or in_container(muxer, tag)


def lost_tags(codec: str, muxer: str) -> list[str]:
    """The fields of a colour, but the siting, that the reader has to be told.

    Readers of MOV need not be told a range: the picture is converted to the one they assume.
    """
    known = {"matrix": codec in _MATRICES, "range": codec in _ONE_RANGE or muxer == "mov"}
    return [
        tag
        for tag in ("range", "matrix", "primaries", "transfer")
        if not carries(codec, muxer, tag) and not known.get(tag)
    ]


def needs_colr(codec: str, muxer: str, form: PixelFormat, colour: Colour) -> bool:
    """Whether MP4 or MOV is to say some tags of ``colour`` while others are unspecified.

    Only where the bitstream does not: FFmpeg's muxer does so on request alone, and completing them
    would claim what nobody knows.
    """
    incomplete = Matrix.UNSPECIFIED in (colour.primaries, colour.transfer)
    told = in_bitstream(codec, "matrix") or form.family == "rgb"
    return muxer in ("mp4", "mov") and incomplete and not told


def range_of(codec: str) -> Range | None:
    """The one range of gray and YUV in ``codec``; None if it has two, or says nothing."""
    return _ONE_RANGE.get(codec)


def matrices_of(codec: str) -> tuple[Matrix, ...] | None:
    """The matrices that readers take YUV in ``codec`` for, the usual one first; None for any."""
    return _MATRICES.get(codec)


def siting_of(codec: str) -> Siting | None:
    """The one chroma siting of ``codec``; None if it has others, or says nothing."""
    return _ONE_SITING.get(codec)


def sitings_of(codec: str, muxer: str, form: PixelFormat, colour: Colour) -> tuple[Siting, ...]:
    """Where readers find the chroma of ``form`` if it is tagged as it lies, the usual place first.

    Args:
        codec: canonical name of what codes it.
        muxer: FFmpeg's name of the container.
        form: a format with subsampled chroma.
        colour: what is written otherwise.
    """
    if codec in _ONE_SITING:
        return (_ONE_SITING[codec],)
    is_420 = (form.chroma_w, form.chroma_h) == (1, 1)
    if codec in ("h264", "hevc"):  # annex E: chroma_loc_info is for 4:2:0, all take others for left
        return tuple(Siting)[1:] if is_420 else _LEFT
    if muxer in ("matroska", "webm"):
        return _BY_MATROSKA
    if muxer == Y4M and form.name == "yuv420p":
        return tuple(Y4M_SITINGS)
    # What AV1 calls colocated (chroma_sample_position); what BT.2020 says, and most take it for.
    known_2020 = colour.matrix == Matrix.BT2020_NCL and carries(codec, muxer, "matrix")
    return (Siting.LEFT, Siting.TOP_LEFT) if is_420 and (codec == "av1" or known_2020) else _LEFT


def same_place(form: PixelFormat, one: Siting, other: Siting) -> bool:
    """Whether chroma of ``form`` lies in the same place by two sitings."""
    across = one.horizontally_centred == other.horizontally_centred
    down = one.vertical == other.vertical
    return (across or not form.chroma_w) and (down or not form.chroma_h)


def has_number(encoder: str, tag: str, number: int) -> bool:
    """Whether FFmpeg's ``encoder`` can say ``number`` of ``tag``, a field of a colour."""
    limited = encoder in ("libx264", "libx264rgb", "libx265") and tag in _X26X
    return not limited or number in (0, *_X26X[tag])


def opening_number(encoder: str, tag: str, number: int) -> int:
    """``number``, or unspecified if FFmpeg's ``encoder`` does not open with it."""
    refused = encoder == "libx265" and not has_number(encoder, tag, number)
    return int(Matrix.UNSPECIFIED) if refused else number
