"""Colour tags: what a stream leaves open is filled in by a rule, and what they become elsewhere.

Sources: ITU-T H.273 (2021), tables 2 to 4; where chroma lies and which range silence means, in the
standards of each codec (H.264 and H.265, annex E; AV1, section 6.4.2; MPEG-1; JFIF 1.02).
"""

from dataclasses import replace

from vsr.errors import UnsupportedFormatError
from vsr.frame import Colour, Matrix, PixelFormat, Range, Siting

__all__ = ["VAPOURSYNTH", "complete_colour", "convert_colour"]

VAPOURSYNTH = "vapoursynth"
"""What stands for a codec where frames come from a VapourSynth clip."""
_NAMES = {
    Matrix.RGB: "RGB", Matrix.BT709: "BT.709", Matrix.FCC: "FCC", Matrix.BT470BG: "BT.601 (625)",
    Matrix.SMPTE170M: "BT.601 (525)", Matrix.SMPTE240M: "SMPTE 240M", Matrix.YCGCO: "YCgCo",
    Matrix.BT2020_NCL: "BT.2020",
}  # fmt: skip
_MATRIX_OF_PRIMARIES = {1: 1, 4: 4, 5: 5, 6: 6, 7: 7, 9: 9}  # H.273 table 2 to table 4
_UNSPECIFIED = (0, 2)
_SILENT_IS_LIMITED = ("h264", "hevc", "vvc", "av1", VAPOURSYNTH)
"""Bitstreams whose standard says so, and VapourSynth, whose ``resize`` reads gray so."""


_UNSUPPORTED = {
    10: ", BT.2020 of constant luminance", 11: ", SMPTE ST 2085", 12: ", derived from primaries",
    13: ", derived from primaries, of constant luminance", 14: ", ICtCp", 15: ", IPT-C2",
    16: ", YCgCo-Re", 17: ", YCgCo-Ro",
}  # fmt: skip
"""Which are no linear maps of R'G'B', or need primaries, or count more bits."""


def complete_colour(
    colour: Colour, *, width: int, height: int, format: PixelFormat, codec: str
) -> tuple[Colour, list[str]]:
    """Fill in what ``colour`` leaves open by a fixed rule.

    RGB and floating-point numbers have no matrix and are full range; RGB in whole numbers is
    limited where it is said to be. YUV without a matrix takes it from its primaries; without those,
    pictures of 720 lines or 1280 columns and more are BT.709, smaller ones BT.601 (625-line
    primaries at 576, 608 or 288 lines, else 525-line). Range is limited; chroma lies left, but in
    the centre for MPEG-1 and JPEG, and top left for BT.2020. Gray is full range, as FFmpeg writes
    and reads it, but where a standard says what silence means, and in VapourSynth.

    Args:
        colour: what the stream says.
        width: coded width in pixels.
        height: coded height in pixels.
        format: pixel format of the stream.
        codec: FFmpeg's decoder name, or :data:`VAPOURSYNTH`.

    Returns:
        The complete colour, and a line where the matrix or the range is a guess. A wrong siting or
        wrong primaries hardly show; the dry run and the record tell them from what was declared.

    Raises:
        UnsupportedFormatError: the stream names a matrix that is no linear map of R'G'B'.
    """
    if format.family == "rgb" or (format.floating and format.family == "gray"):
        limited = colour.range == Range.LIMITED and not format.floating
        return replace(
            colour, matrix=Matrix.RGB, range=Range.LIMITED if limited else Range.FULL
        ), []
    notes: list[str] = []
    matrix = colour.matrix
    if matrix == Matrix.UNSPECIFIED or (matrix == Matrix.RGB and format.chroma_w + format.chroma_h):
        colour = _guess_matrix(colour, width, height)
        if format.family == "yuv":
            named = _NAMES[Matrix(colour.matrix)]
            notes.append(f"colour matrix not tagged: taken as {named} ({width}x{height})")
    elif matrix not in _NAMES:
        named = f"{matrix} (H.273{_UNSUPPORTED.get(matrix, '')})"
        raise UnsupportedFormatError(f"colour matrix {named} is not supported")
    if colour.range == Range.UNSPECIFIED:
        full = format.name.startswith("yuvj") or codec == "mjpeg"
        full |= format.family == "gray" and codec not in _SILENT_IS_LIMITED
        colour = replace(colour, range=Range.FULL if full else Range.LIMITED)
        notes.append(f"colour range not tagged: taken as {'full' if full else 'limited'}")
    if colour.siting == Siting.UNSPECIFIED and format.chroma_w + format.chroma_h:
        colour = replace(colour, siting=_guess_siting(colour, format, codec))
    return colour, notes


def _guess_matrix(colour: Colour, width: int, height: int) -> Colour:
    if (known := _MATRIX_OF_PRIMARIES.get(colour.primaries)) is not None:
        return replace(colour, matrix=known)
    if height >= 720 or width >= 1280:
        matrix = primaries = transfer = 1
    elif height in (576, 288, 608):  # 608: D-10, with lines above the picture
        matrix, primaries, transfer = 5, 5, 6
    else:
        matrix = primaries = transfer = 6
    if colour.primaries not in _UNSPECIFIED:
        primaries = colour.primaries
    if colour.transfer not in _UNSPECIFIED:
        transfer = colour.transfer
    return replace(colour, matrix=matrix, primaries=primaries, transfer=transfer)


def _guess_siting(colour: Colour, format: PixelFormat, codec: str) -> Siting:
    if codec in ("mpeg1video", "mjpeg"):
        return Siting.CENTRE
    if format.chroma_h == 0:
        return Siting.LEFT
    return Siting.TOP_LEFT if colour.matrix == Matrix.BT2020_NCL else Siting.LEFT


def convert_colour(colour: Colour, source: PixelFormat, target: PixelFormat) -> Colour:
    """What the complete ``colour`` of a ``source`` becomes where ``target`` is written.

    Range stays, but RGB that was not RGB before is full, and what was RGB becomes limited YUV.
    """
    if target.family == "rgb":
        given = colour.range if source.family == "rgb" else Range.FULL
        return replace(colour, matrix=Matrix.RGB, range=given, siting=Siting.UNSPECIFIED)
    if source.family == "rgb":
        colour = replace(colour, matrix=Matrix.BT709, range=Range.LIMITED)
    elif colour.matrix == Matrix.RGB:
        colour = replace(colour, matrix=Matrix.BT709)
    subsampled = bool(target.chroma_w or target.chroma_h)
    same = (source.chroma_w, source.chroma_h) == (target.chroma_w, target.chroma_h)
    siting = colour.siting if same and source.family == target.family else Siting.LEFT
    return replace(colour, siting=siting if subsampled else Siting.UNSPECIFIED)
