"""Which pixel format and colour an encoder gets: what loses least.

Only planar formats, which the engine writes; packed ones hold the same samples in another order,
big-endian ones the same bytes. Encoders in hardware often take 4:2:0 with chroma interleaved alone,
others RGB in pixels: PyAV then changes the order.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

import av.video.format
from av.codec import Codec

from vsr.encoding.carried import (
    carries,
    matrices_of,
    range_of,
    same_place,
    siting_of,
    sitings_of,
)
from vsr.encoding.muxers import raw_formats
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.frame import Colour, PixelFormat, Range, Siting, VideoInfo, pixel_format
from vsr.tagging import convert_colour

__all__ = [
    "nearest_format",
    "output_colour",
    "planar_formats",
    "refused_formats",
    "requested_format",
    "stored_as",
    "unwritten_format",
]

# Alpha that encoders code, but hardly anything plays; and what FFmpeg 5.1 does not read of FFV1.
_AVOIDED = {
    "ffv1": ("yuva422p12le", "yuva444p12le", "gbrap14le", "gray14le"),
    "libx265": ("yuva420p", "yuva420p10le"),
    "libvpx-vp9": ("yuva422p", "yuva444p", "gbrap"),
}
_PACKED = {
    "yuv420p": ("nv12",), "yuv420p10le": ("p010le",),
    "gbrp": ("rgb24", "bgr24", "0rgb", "rgb0", "bgr0"), "gbrap": ("rgba", "bgra", "argb", "abgr"),
    "gray16le": ("gray16be",), "gbrp16le": ("rgb48be", "rgb48le"),
    "gbrap16le": ("rgba64be", "rgba64le"),
}  # fmt: skip
"""The engine's formats, and what holds their samples in another order of samples or of bytes."""
_FOR_EDITING = ("dnxhd", "cfhd")
"""Lossy codecs that are edited and graded, in RGB where that is the source's."""
_IN_444 = ("gbrp10le", "yuv444p10le")
_PROFILES_OF_444 = ("dnxhr_444", "5")
"""DNxHR's one profile that takes them, by name and by number."""
_STANDARD_CHROMA = {(1, 1), (1, 0), (0, 0)}


def planar_formats(
    encoder: Codec, muxer: str | None = None, source: PixelFormat | None = None
) -> list[PixelFormat]:
    """Those formats of ``encoder`` that the engine can write and ``muxer`` can hold.

    Args:
        encoder: what encodes.
        muxer: FFmpeg's name of the container; None where nothing is written.
        source: of the input: a refusal names what else holds it without loss.

    Raises:
        ConfigError: there is none.
    """
    if encoder.video_formats is None:  # rawvideo and its like take everything
        names = sorted(av.video.format.names)
    else:
        names = [form.name for form in encoder.video_formats]
    if encoder.name == "rawvideo" and muxer is not None:
        names = raw_formats(muxer, names)
    if not names:
        there = _lossless_in_mov(source) if muxer == "mov" and source is not None else None
        instead = f"{there} is lossless there, and ffv1 in mkv" if there else "mkv takes ffv1"
        lossless = "" if there else ", which is lossless, too"
        raise ConfigError(f"raw video is not written in {muxer}: {instead}{lossless}")
    found = []
    for name in names:
        with suppress(UnsupportedFormatError):
            form = pixel_format(name)
            # yuvj* duplicates yuv*: the range is a tag of its own.
            if form.planar and not name.startswith("yuvj"):
                found.append(form)
    if encoder.name != "rawvideo":
        found += _held_packed(names, found)
    if not found:
        raise ConfigError(f"{encoder.name} takes no planar pixel format ({', '.join(names)})")
    return found


def _lossless_in_mov(source: PixelFormat) -> str | None:
    """The encoder that loses nothing of ``source`` in MOV; None if none is sure to."""
    if source.floating:
        return None
    if source.family != "yuv":
        if source.depth == 8:
            return "qtrle"
        in_10_bits = source.family == "rgb" and not source.alpha and source.depth <= 10
        return "r210" if in_10_bits else "png"
    fits = (source.chroma_w, source.chroma_h) == (1, 0) and source.depth <= 10 and not source.alpha
    return "v210" if fits else None


def _held_packed(names: Collection[str], planar: Collection[PixelFormat]) -> list[PixelFormat]:
    """Planar formats whose samples fit in packed ones among ``names``.

    RGB only if none of ``planar`` has as many bits: a lossless file is checked by the hashes of its
    planes.
    """
    own = {(form.alpha, form.depth) for form in planar if form.family == "rgb"}
    found = [pixel_format(name) for name, packed in _PACKED.items() if {*packed} & {*names}]
    return [
        form
        for form in found
        if form.name not in names and not (form.family == "rgb" and (form.alpha, form.depth) in own)
    ]


def stored_as(codec: str, form: PixelFormat) -> str:
    """The pixel format in which ``codec`` takes the samples of ``form``: itself, or packed."""
    taken = {taken.name for taken in Codec(codec, "w").video_formats or ()}
    if not taken or form.name in taken:
        return form.name
    return next((name for name in _PACKED.get(form.name, ()) if name in taken), form.name)


def refused_formats(codec: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """Names of pixel formats that FFmpeg's encoder ``codec`` refuses with the ``options`` given."""
    profile = options.get("profile", _PROFILES_OF_444[0])
    return _IN_444 if codec == "dnxhd" and profile not in _PROFILES_OF_444 else ()


def requested_format(codec: str, formats: list[PixelFormat], wanted: str) -> PixelFormat:
    """The one of ``formats`` that the user means by ``wanted``.

    Raises:
        ConfigError: it is not among them; with whether ``codec`` takes it, and with those.
    """
    accepted = {form.name: form for form in formats}
    plain = wanted.replace("yuvj", "yuv")
    names = (plain, f"{plain}le")
    for name in names:
        if name in accepted:
            return accepted[name]
    packed = {stored_as(codec, form): form for form in reversed(formats)}  # the first one counts
    for name in names:
        if name in packed:
            return packed[name]
    raise unwritten_format(codec, wanted, accepted)


def unwritten_format(codec: str, wanted: str, written: Iterable[str]) -> ConfigError:
    """The error for a pixel format that cannot be had.

    Args:
        codec: FFmpeg's name of the encoder.
        wanted: the format's name, as the user gave it.
        written: the names of those that can be had with ``codec``.
    """
    formats = Codec(codec, "w").video_formats
    taken = av.video.format.names if formats is None else {form.name for form in formats}
    there = ", ".join(written)
    if {wanted, f"{wanted}le"} & {*taken}:
        return ConfigError(f"vsr does not write {wanted}, which {codec} takes: it writes {there}")
    return ConfigError(f"{codec} does not take pixel format {wanted}: it takes {there}")


def nearest_format(
    encoder: Codec,
    formats: list[PixelFormat],
    info: VideoInfo,
    size: tuple[int, int],
    *,
    avoided: Collection[str] = (),
) -> PixelFormat:
    """The format that loses least and, of those, the one that stores least.

    Args:
        encoder: what encodes it.
        formats: what there is to choose from.
        info: facts about the *source*.
        size: width and height of the output.
        avoided: names of formats that are there on request only.

    Raises:
        ConfigError: the source has colours, and there is gray alone.
    """
    source = info.format
    avoided = (*avoided, *_AVOIDED.get(encoder.name, ()))
    formats = _preferring(formats, lambda form: form.name not in avoided)
    formats = _preferring(formats, lambda form: form.depth != 9 or source.depth == 9)  # a rarity
    formats = _preferring(formats, lambda form: not form.floating)  # FFV1's are experimental
    formats = _preferring(formats, lambda form: form.alpha == source.alpha)
    families = [source.family, "yuv", "rgb"]
    if source.family == "rgb" and encoder.lossy and encoder.canonical_name not in _FOR_EDITING:
        families = ["yuv", "rgb"]  # lossy RGB wastes bits, and few players show it
    family = next(f for f in [*families, "gray"] if any(form.family == f for form in formats))
    if family == "gray" != source.family:
        raise ConfigError(
            f"{encoder.name} takes colours in no format that can be written here: choose another "
            "encoder (-c:v), or --pix-fmt gray"
        )
    formats = [form for form in formats if form.family == family]
    depths = {form.depth for form in formats}
    depth = min((d for d in depths if d >= source.depth), default=max(depths))
    return _of_chroma([form for form in formats if form.depth == depth], info, size)


def _preferring(
    formats: list[PixelFormat], condition: Callable[[PixelFormat], bool]
) -> list[PixelFormat]:
    """Those that meet ``condition``, or all if none does."""
    return [form for form in formats if condition(form)] or formats


def _of_chroma(formats: list[PixelFormat], info: VideoInfo, size: tuple[int, int]) -> PixelFormat:
    """The source's subsampling, or the smallest standard one that holds its chroma samples."""
    source = info.format
    if source.family != "gray":
        for form in formats:
            if (form.chroma_w, form.chroma_h) == (source.chroma_w, source.chroma_h):
                return form
    formats = _preferring(formats, lambda form: (form.chroma_w, form.chroma_h) in _STANDARD_CHROMA)
    formats = sorted(formats, key=lambda form: -form.chroma_w - form.chroma_h)  # smallest first
    if source.family == "gray":
        return formats[0]
    rows, columns = source.component_shape(1, info.width, info.height)
    for form in formats:
        form_rows, form_columns = form.component_shape(1, *size)
        if form_rows >= rows and form_columns >= columns:
            return form
    return formats[-1]


def output_colour(
    encoder: Codec,
    info: VideoInfo,
    form: PixelFormat,
    wanted: Range | None = None,
    muxer: str | None = None,
) -> Colour:
    """What the engine converts the colours of ``info`` to where ``form`` is written.

    1. RGB has full range, whatever it had: readers of files take it so, and some encoders tag it
       wrongly.
    2. Where a bitstream has one matrix, range or chroma siting only, it is that.
    3. What nothing would tell the reader becomes what readers take it for; but what a lossless
       encoder writes stays as it is, and a line tells of it, unless that is in MOV, whose readers
       assume alike.
    4. All else is the source's; a range that is ``wanted`` comes before the source's.

    Args:
        encoder: what encodes it.
        info: facts about the *source*.
        form: what is written.
        wanted: the range that the user asks for.
        muxer: FFmpeg's name of the container; None where nothing is written.
    """
    colour = convert_colour(info.colour, info.format, form)
    if form.family == "rgb":
        return replace(colour, range=Range.FULL)
    colour = replace(colour, range=wanted or colour.range)
    if muxer is None:
        return colour
    codec = encoder.canonical_name
    exact = encoder.lossless and not encoder.lossy and muxer != "mov"
    if only := range_of(codec):
        colour = replace(colour, range=only)
    elif not exact and not carries(codec, muxer, "range"):
        colour = replace(colour, range=Range.FULL if form.family == "gray" else Range.LIMITED)
    matrices = matrices_of(codec)
    if form.family == "yuv" and matrices and colour.matrix not in matrices:
        colour = replace(colour, matrix=matrices[0])
    if form.chroma_w + form.chroma_h and (siting_of(codec) or not exact):
        colour = replace(colour, siting=_siting(codec, muxer, form, colour))
    return colour


def _siting(codec: str, muxer: str, form: PixelFormat, colour: Colour) -> Siting:
    """That of ``colour``, or where readers look for the chroma instead."""
    known = sitings_of(codec, muxer, form, colour)
    if colour.siting in known:
        return colour.siting
    alike = (siting for siting in known if same_place(form, siting, colour.siting))
    return next(alike, known[0])
