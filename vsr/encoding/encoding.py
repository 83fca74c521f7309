"""What was chosen for an output, and an encoder that is told of it."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from av.codec import Codec
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.config import Sound
from vsr.encoding.carried import opening_number
from vsr.encoding.formats import stored_as
from vsr.encoding.muxers import flags_in, is_fragmented
from vsr.ffmpeg import standard_of
from vsr.frame import Colour, FieldOrder, PixelFormat, VideoInfo
from vsr.rationals import bounded

__all__ = [
    "Encoding",
    "add_video",
    "clock_time_base",
    "configure",
    "counts_frames",
    "encoder_time_base",
    "has_option",
    "has_rate_alone",
    "largest_numerator",
    "opening_options",
    "restored_rate",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a picture is coded and wrapped: all that the engine and the sink need to agree on."""

    muxer: str
    """FFmpeg's muxer name."""
    codec: str
    """FFmpeg's encoder name."""
    format: PixelFormat
    """What the engine delivers; always planar."""
    colour: Colour
    """What the engine converts to and the sink tags."""
    options: dict[str, str]
    """Options of the encoder, crf and preset included."""
    muxer_options: dict[str, str] = field(default_factory=dict)
    """Options of the container."""
    first_number: int | None = None
    """Of the first picture, where pictures are numbered."""
    stems: tuple[str, ...] = ()
    """What pictures are called that keep the names of those they were made of."""
    notes: tuple[str, ...] = ()
    """One line for every automatic choice and every loss."""
    sound: Sound = "copy"
    """What becomes of sound, as in :class:`vsr.config.EncoderConfig`."""
    even: bool = False
    """Whether frames are known to come at the rate of the output, but for rounding."""
    piped: bool = False
    """Whether it goes where there is no way back to what was written."""

    @property
    def standard(self) -> str:
        """FFmpeg's name of what the encoder writes: ``"h264"`` of ``"libx264"``."""
        return standard_of(self.codec)

    @property
    def blu_ray(self) -> bool:
        """Whether it is a transport stream of Blu-ray's kind."""
        return self.muxer_options.get("mpegts_m2ts_mode") == "1"

    @property
    def container_options(self) -> dict[str, str]:
        """Options of the container as records and work folders hold them: with FFmpeg's names."""
        if self.first_number is None:
            return self.muxer_options
        return {**self.muxer_options, "start_number": str(self.first_number)}

    @property
    def bitexact(self) -> bool:
        """Whether what would be other bytes each time, or of each version, is left out."""
        return flags_in(self.muxer_options.get("fflags", "")).get("bitexact", False)

    @property
    def fragmented(self) -> bool:
        """Whether this is MP4 or MOV in fragments, as a pipe needs it."""
        return is_fragmented(self.muxer_options)

    @property
    def streamed(self) -> bool:
        """Whether all that a header says has to be known before the first packet."""
        return self.piped or self.fragmented


_COUNTING = ("mpeg1video", "mpeg2video")
_RATED_BY_TICKS = (
    "mpeg4", "msmpeg4v3", "msmpeg4v2", "wmv1", "wmv2", "flv1", "h263", "h263p", "mjpeg",
)  # fmt: skip
"""To their control of the bit rate a tick is a frame, and the rate is met only if it is."""
_TIMED_BY_RATE = ("mp4", "mov")
_MOST_TICKS = 120
"""Parts of a tick: of a millisecond, 120000/1001 frames a second have no more."""
_MPEG4_LARGEST = 65535
"""Units in a second that MPEG-4 ASP can count in."""


def has_rate_alone(codec: str) -> bool:
    """Whether the codec that FFmpeg's encoder ``codec`` writes has a rate, and no times."""
    return standard_of(codec) in _COUNTING


def largest_numerator(codec: str) -> int | None:
    """Of the rate of what FFmpeg's encoder ``codec`` writes; None if any will do."""
    return _MPEG4_LARGEST if standard_of(codec) == "mpeg4" else None


def counts_frames(encoding: Encoding, info: VideoInfo) -> bool:
    """Whether the encoder must see frames at a constant rate, and the container has their times."""
    return clock_time_base(encoding, info) != encoder_time_base(encoding, info)


def encoder_time_base(encoding: Encoding, info: VideoInfo) -> Fraction:
    """The time base the encoder counts in, in seconds: the source's wherever that is possible."""
    codec = encoding.standard
    rated = codec in _RATED_BY_TICKS and "b" in encoding.options
    constant_rate = encoding.muxer == "avi" or codec in _COUNTING or rated
    base = _finer_time_base(encoding, info) or info.time_base
    if constant_rate or (codec == "mpeg4" and base.denominator > _MPEG4_LARGEST):
        return 1 / info.rate
    return base


def clock_time_base(encoding: Encoding, info: VideoInfo) -> Fraction:
    """The time base of the packets, in seconds, whatever the encoder counts in."""
    counts = encoding.muxer == "avi" or (encoding.even and has_rate_alone(encoding.codec))
    return 1 / info.rate if counts else _finer_time_base(encoding, info) or info.time_base


def _finer_time_base(encoding: Encoding, info: VideoInfo) -> Fraction | None:
    """That of the source and of the rate in one, where frames of the rate are no whole ticks.

    Matroska rounds times to milliseconds. MP4 and MOV can hold what was rounded, and what reads
    them takes 41 and 42 ms in turn for a rate that varies.
    """
    ticks = 1 / (info.rate * info.time_base)  # of the source, a frame
    rounded = encoding.muxer in _TIMED_BY_RATE and 1 < ticks.denominator <= _MOST_TICKS
    return info.time_base / ticks.denominator if rounded else None


def restored_rate(encoding: Encoding, info: VideoInfo) -> Fraction | None:
    """The rate on whose grid frames are put that the source's clock has rounded; None for none."""
    return info.rate if _finer_time_base(encoding, info) else None


@lru_cache
def has_option(codec: str, name: str) -> bool:
    """Whether FFmpeg's encoder ``codec`` has an option of its own of that ``name``."""
    options = Codec(codec, "w").create("video").supported_options.private
    return any(option.name == name for option in options)


def opening_options(encoding: Encoding) -> dict[str, str]:
    """What the encoder is opened with: the options, and how it is to take what it is asked for.

    A key frame that is asked for (:mod:`vsr.sinks.pictures`) must not be shown ahead of others that
    are coded behind it.
    """
    forced = {"forced-idr": "1"} if has_option(encoding.codec, "forced-idr") else {}
    return {**forced, **encoding.options}


def add_video(container: OutputContainer, encoding: Encoding, info: VideoInfo) -> VideoStream:
    """Add the encoded video to ``container``, whose header must not have been written.

    Args:
        container: where to add the stream.
        encoding: codec, pixel format, colour tags and options.
        info: facts about the *output*: size, rate, time base, aspect ratio.
    """
    stream = container.add_stream(
        encoding.codec,
        rate=bounded(info.rate),
        options=opening_options(encoding),
        time_base=encoder_time_base(encoding, info),
        width=info.width,
        height=info.height,
        pix_fmt=stored_as(encoding.codec, encoding.format),
    )
    assert isinstance(stream, VideoStream)  # an encoder without pixel formats was refused
    stream.time_base = clock_time_base(encoding, info)
    configure(stream.codec_context, encoding, info)
    return stream


def configure(context: VideoCodecContext, encoding: Encoding, info: VideoInfo) -> None:
    """Tell an encoder that is not open yet how the picture is to be read.

    Args:
        context: an encoder that knows codec, size, pixel format, rate and time base.
        encoding: colour tags, container.
        info: facts about the *output*: aspect ratio, field order.
    """
    # PyAV's default, slices only, makes x264 cut every picture into one slice per thread.
    context.thread_type = "AUTO"
    context.flags |= Flags.frame_duration
    if encoding.bitexact:
        context.flags |= Flags.bitexact
    context.color_range = encoding.colour.range
    context.colorspace = encoding.colour.matrix
    context.color_primaries = opening_number(encoding.codec, "primaries", encoding.colour.primaries)
    context.color_trc = opening_number(encoding.codec, "transfer", encoding.colour.transfer)
    context.chroma_sample_location = encoding.colour.siting
    if info.sar is not None:
        context.sample_aspect_ratio = info.sar
    if info.field_order != FieldOrder.UNKNOWN:
        context.field_order = info.field_order
    if context.codec.canonical_name == "hevc" and encoding.muxer in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players ignore FFmpeg's default, hev1
