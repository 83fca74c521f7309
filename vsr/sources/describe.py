"""What a container and its decoder say about a video stream, in our own terms."""

import re
import struct
from dataclasses import replace
from fractions import Fraction
from typing import cast

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.ffmpeg import known_fraction
from vsr.frame import Colour, FieldOrder, Matrix, Range, Siting
from vsr.sources.clock_joins import WRAP, may_start_again
from vsr.sources.side_data import hdr_metadata, immersive, of_frame

__all__ = [
    "claimed_rates",
    "claims_alpha",
    "container_colour",
    "container_start",
    "context_colour",
    "counts_from_zero",
    "cropping",
    "display_matrix",
    "empty_edits",
    "field_order",
    "frame_colour",
    "has_end",
    "has_only_decoding_times",
    "has_times",
    "hdr_metadata",
    "header_length",
    "immersive",
    "last_frame_end",
    "sample_aspect",
    "stream_end",
]

_UNSPECIFIED = 2
_RATED = ("mpeg1video", "mpeg2video", "h261")
"""Codecs of which every stream has a rate."""
_WITHOUT_COLOUR = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc")
"""Formats that tell no colour: only what is in them does."""
_BESIDE = 10
"""Seconds by which sound may begin before the picture of its recording."""
_ROUNDED = Fraction(1, 10)
"""Seconds by which the lengths that FFmpeg has of one file may differ."""
_LINES_ABOVE = {(720, 512): 26, (720, 608): 32}
"""Lines of the blanking interval that MPEG-2 of D-10 (SMPTE ST 356) codes above the picture."""
_COUNTS_FROM_ZERO = ("matroska", "flv")
"""Formats whose header gives the end, not the distance from the first timestamp to the end."""


_STILLS = {"avif", "heic", "heix", "heim", "heis", "mif1"}
"""Brands of files that hold pictures; those of their sequences are videos like any other."""
_BT709_PRIMARIES, _SRGB_TRANSFER = 1, 13


def claimed_rates(stream: VideoStream) -> list[Fraction]:
    """Frame rates that the container claims or FFmpeg guesses, the most trusted first."""
    # Of raw H.264 the average is what FFmpeg assumes, 25.
    claims = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    return [rate for claim in claims if (rate := known_fraction(claim))]


def claims_alpha(stream: VideoStream) -> bool:
    """Whether the container says that there is alpha beside the pictures, as WebM's may be."""
    return {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"


def container_start(container: InputContainer) -> Fraction | None:
    """The earliest timestamp in seconds, if the format knows it (the stubs say it always does)."""
    start: object = container.start_time
    if not isinstance(start, int):
        return None
    begin = Fraction(start, av.time_base)
    return _first_start(container, begin) if may_start_again(container) else begin


def _first_start(container: InputContainer, begin: Fraction) -> Fraction:
    """Where the first of joined recordings begins; sound may begin in a later one, by its clock."""
    starts = {
        stream: stream.start_time * (known_fraction(stream.time_base) or Fraction(0))
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None
    }
    shown = [starts[stream] for stream in container.streams.video if stream in starts]
    if not shown or begin >= min(shown) - _BESIDE:
        return begin
    return min(start for start in starts.values() if start >= min(shown) - _BESIDE)


def context_colour(stream: VideoStream) -> Colour:
    """Colour tags of the container, to be read before the decoder replaces them by its own."""
    context = stream.codec_context
    return Colour(
        matrix=context.colorspace,
        range=_range(context.color_range),
        primaries=context.color_primaries,
        transfer=context.color_trc,
        siting=_siting(context.chroma_sample_location),
    )


def container_colour(stream: VideoStream) -> Colour:
    """Colour tags of the container that ``stream`` is in; to be read before the first frame.

    FFmpeg fills up what the container does not tell with what it finds as it probes the stream. In
    joined recordings that may be of a later part.
    """
    container = stream.container
    assert isinstance(container, InputContainer)
    if container.format.name in _WITHOUT_COLOUR:
        return Colour()
    return _still_colour(context_colour(stream), container)


def _still_colour(colour: Colour, container: InputContainer) -> Colour:
    """``colour`` with what HEIF and AVIF mean where they say nothing, if ``container`` is one.

    Source: MIAF (ISO/IEC 23000-22), 7.3.6.4: sRGB's primaries and transfer, BT.601's matrix, full
    range.
    """
    if container.metadata.get("major_brand", "").strip() not in _STILLS:
        return colour
    return Colour(
        matrix=_first(colour.matrix, Matrix.SMPTE170M), range=colour.range or Range.FULL,
        primaries=_first(colour.primaries, _BT709_PRIMARIES),
        transfer=_first(colour.transfer, _SRGB_TRANSFER), siting=colour.siting,
    )  # fmt: skip


def frame_colour(frame: VideoFrame, container: Colour) -> Colour:
    """Colour tags of a frame; where it has none, the container's."""
    colour = Colour(
        matrix=_first(frame.colorspace, container.matrix),
        range=_range(frame.color_range) or container.range,
        primaries=_first(frame.color_primaries or _UNSPECIFIED, container.primaries),
        transfer=_first(frame.color_trc or _UNSPECIFIED, container.transfer),
        siting=_siting(frame.chroma_location) or container.siting,
    )
    if frame.format.name.startswith("yuvj"):
        return replace(colour, range=Range.FULL)
    return colour


def display_matrix(stream: VideoStream, frame: VideoFrame | None) -> bytes | None:
    """FFmpeg's display matrix (36 bytes), of the container, else of the first frame."""
    if (found := stream.codec_context.coded_side_data.get("display_matrix")) is not None:
        return bytes(found)
    return None if frame is None else of_frame(frame, SideDataType.DISPLAYMATRIX)


def sample_aspect(stream: VideoStream) -> Fraction | None:
    """Pixel aspect ratio: the container's, which an editor may have corrected, else the codec's."""
    context = stream.codec_context
    return known_fraction(stream.sample_aspect_ratio) or known_fraction(context.sample_aspect_ratio)


def cropping(stream: VideoStream) -> tuple[int, int, int, int]:
    """Rows and columns that the container wants cut: top, bottom, left, right.

    QuickTime's clean aperture of D-10 does not count the lines above the picture.
    """
    found = stream.codec_context.coded_side_data.get("frame_cropping")
    if found is None or len(bytes(found)) != 16:
        return 0, 0, 0, 0
    top, bottom, left, right = struct.unpack("<4I", bytes(found))
    quicktime = stream.container.format.name.startswith("mov")
    if quicktime and stream.codec_context.codec.canonical_name == "mpeg2video":
        top += _LINES_ABOVE.get((stream.width, stream.height), 0)
    return top, bottom, left, right


def field_order(stream: VideoStream, frame: VideoFrame) -> FieldOrder:
    """The stream's field order; unknown for fields that only the first frame tells of."""
    tagged = FieldOrder(stream.codec_context.field_order)
    if frame.interlaced_frame:
        return tagged if tagged.interlaced else FieldOrder.UNKNOWN
    return tagged


def stream_end(stream: VideoStream, begin: Fraction) -> Fraction | None:
    """Where the video ends by the container's header, in seconds after ``begin``."""
    time_base = known_fraction(stream.time_base)
    own = not stream.container.format.name.startswith("matroska")  # else it is FFmpeg's guess
    if own and stream.duration and time_base:
        return ((stream.start_time or 0) + stream.duration) * time_base - begin
    end = _duration_tag(stream.metadata.get("DURATION", ""))
    if end is None or "_STATISTICS_TAGS" in stream.metadata:  # mkvmerge's is how long it lasts
        return end
    return end - begin  # FFmpeg's is when it ends, counted from 0


def last_frame_end(stream: VideoStream, begin: Fraction) -> Fraction | None:
    """Where the last frame ends, in seconds after ``begin``; None if frames know better themselves.

    In Matroska, durations of frames often repeat a default. FFmpeg's DURATION tag says where the
    stream ends; mkvmerge's is a length of unknown origin and is ignored. AVI's header counts
    dropped frames, so it gives the end.
    """
    tells = stream.container.format.name == "avi" or not stream.duration
    own = tells and "_STATISTICS_TAGS" not in stream.metadata
    return stream_end(stream, begin) if own else None


def header_length(container: InputContainer, begin: Fraction) -> Fraction | None:
    """Length of the file by its header, in seconds after ``begin``.

    Of formats without a header it is FFmpeg's guess by the first and last times. Where a recording
    with an earlier clock was joined, that is one of days, which says nothing. Of AVI that ends
    without its index, FFmpeg gives the length of what there is, and the number that was promised.
    """
    if not container.duration:
        return None
    length = Fraction(container.duration, av.time_base)
    if container.format.name == "avi":
        promised = [
            stream.frames * (known_fraction(stream.time_base) or Fraction(0))
            for stream in container.streams.video
        ]
        length = max([length, *promised])
    if may_start_again(container) and length > WRAP / 2:
        return None
    return length - begin if counts_from_zero(container) else length


def has_end(container: InputContainer, begin: Fraction) -> bool:
    """Whether the end of AVI is there: of what breaks off, FFmpeg gives a shorter length."""
    length = header_length(container, begin)
    if container.format.name != "avi" or length is None or not container.duration:
        return False
    return Fraction(container.duration, av.time_base) > length - _ROUNDED


def has_times(container: InputContainer, codec: str) -> bool:
    """Whether a file says when pictures are shown, or its codec at which rate they come.

    Of pictures or packets that merely follow each other, FFmpeg gives times all the same, mostly at
    the 25 frames a second that it assumes.

    Args:
        container: the open file.
        codec: FFmpeg's name of the video's.
    """
    if codec in _RATED:
        return True
    untimed = container.format.flags & cast(int, Flags.no_timestamps.value)
    return not untimed and not container.format.name.endswith("_pipe")


def has_only_decoding_times(container: InputContainer, first: "Packet[Stream]") -> bool:
    """Whether the presentation times that FFmpeg gives are not to be believed.

    AVI and GXF have none, and what FFmpeg makes up is wrong for pictures that change places. MXF
    has them in an index; if that is silent, FFmpeg repeats the decoding times. An index that lets
    pictures change places is not mistaken for a silent one, since decoding then begins ahead of the
    first presentation time.

    Args:
        container: the open file.
        first: the first packet of the video stream.
    """
    if container.format.name in ("avi", "gxf"):
        return True
    return container.format.name == "mxf" and first.dts is not None and first.pts == first.dts


def empty_edits(container: InputContainer) -> Fraction:
    """Seconds by which FFmpeg's durations of a MOV may be too long.

    Where a stream begins late by an edit list that cuts its end, too, they contain the delay.
    """
    if not container.format.name.startswith("mov"):
        return Fraction(0)
    starts = (
        stream.start_time * time_base
        for stream in container.streams
        if stream.start_time and (time_base := known_fraction(stream.time_base))
    )
    return max(starts, default=Fraction(0))


def counts_from_zero(container: InputContainer) -> bool:
    """Whether the format's clock begins at 0, and its header says when the file ends by that."""
    return container.format.name.startswith(_COUNTS_FROM_ZERO)


def _duration_tag(text: str) -> Fraction | None:
    """Seconds in a tag of Matroska's: ``00:01:02.500000000``."""
    if not (match := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)):
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3])


def _first(value: int, otherwise: int) -> int:
    return value if value != _UNSPECIFIED else otherwise


def _range(value: int) -> Range:
    return Range(value) if value in Range else Range.UNSPECIFIED


def _siting(value: int) -> Siting:
    return Siting(value) if value in Siting else Siting.UNSPECIFIED
