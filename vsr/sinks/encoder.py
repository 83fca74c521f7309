"""An encoder and the stream that its packets go to."""

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.encoding import (
    Encoding,
    add_video,
    clock_time_base,
    configure,
    counts_frames,
    encoder_time_base,
)
from vsr.encoding.encoding import has_option, opening_options
from vsr.encoding.formats import stored_as
from vsr.encoding.scheduling import usual_scheduling
from vsr.ffmpeg import fraction
from vsr.frame import VideoInfo
from vsr.hdr import HdrMetadata, held_by_container
from vsr.immersive import Immersive, can_say
from vsr.rationals import bounded
from vsr.sinks.memory import defined_memory
from vsr.sinks.side_data import template

__all__ = ["Counting", "Encoder", "encode", "open_context", "open_encoder", "writes_captions"]

_GLOBAL_HEADER = cast(int, FormatFlags.global_header.value)
# What a muxer wants to know of an encoder that is open.
_KNOWN_TO_MUXERS = (
    "width", "height", "pix_fmt", "extradata", "codec_tag", "framerate",
    "sample_aspect_ratio", "color_range", "colorspace", "color_primaries", "color_trc",
    "chroma_sample_location", "field_order", "bits_per_raw_sample",
)  # fmt: skip
_TIMED_BY_X265 = 3
"""x265 leaves the dts of streams of fewer pictures to chance."""


@dataclass(slots=True)
class Encoder:
    """Encodes pictures for one stream of an output."""

    stream: VideoStream
    context: VideoCodecContext
    counting: "Counting | None" = None
    _has_delivered: bool = False

    @property
    def writes_captions(self) -> bool:
        """Whether closed captions (CTA-708 in ATSC A/53) of the pictures reach the bitstream."""
        return writes_captions(self.context.codec.name)

    def encode(self, picture: VideoFrame | None) -> "list[Packet[Any]]":
        """The packets that are ready after ``picture``; None asks for all that are left."""
        packets = encode(self.context, picture, self.counting)
        if picture is None and self._all_untimed(packets):
            _set_dts(packets)
        for packet in packets:
            packet.stream = self.stream
        self._has_delivered = self._has_delivered or bool(packets)
        return packets

    def _all_untimed(self, packets: "list[Packet[Any]]") -> bool:
        """Whether these last packets are all there are, and lack a dts."""
        few = not self._has_delivered and len(packets) < _TIMED_BY_X265
        return few and self.context.codec.name == "libx265"


class Counting:
    """Numbers for an encoder that counts frames, and their times again for its packets.

    Such an encoder would give frames that come at another pace than its own the wrong times, by
    more with every frame.

    Args:
        step: how long a frame is by the encoder, in seconds.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step
        self._times = array("q")
        self._base = Fraction(1)

    @classmethod
    def of(cls, encoding: Encoding, info: VideoInfo) -> "Counting | None":
        """What an encoder needs for an output; None if it takes times."""
        return cls(1 / info.rate) if counts_frames(encoding, info) else None

    def number(self, picture: VideoFrame) -> None:
        """Give ``picture`` its number in place of its time."""
        assert picture.pts is not None
        self._base = fraction(picture.time_base)
        self._times.append(picture.pts)
        picture.pts, picture.duration, picture.time_base = len(self._times) - 1, 1, self._step

    def time(self, packet: "Packet[Any]") -> None:
        """Give ``packet`` the times of the frames whose numbers it has."""
        assert packet.pts is not None
        assert packet.dts is not None
        number, packet.pts = packet.dts, self._times[packet.pts]
        ahead = round(min(number, 0) * self._step / self._base)
        packet.dts = self._times[max(number, 0)] + ahead
        packet.time_base = self._base


def encode(
    context: VideoCodecContext, picture: VideoFrame | None, counting: Counting | None
) -> "list[Packet[Any]]":
    """The packets that are ready after ``picture``; None asks for all that are left."""
    if counting is not None and picture is not None:
        counting.number(picture)
    with defined_memory(context.codec.name):
        packets = list(context.encode(picture))
    if counting is not None:
        for packet in packets:
            counting.time(packet)
    return packets


def writes_captions(codec: str) -> bool:
    """Whether FFmpeg's encoder ``codec`` writes closed captions of its pictures."""
    return has_option(codec, "a53cc")


def _set_dts(packets: "list[Packet[Any]]") -> None:
    """Give all packets of a stream the latest dts that come before their pts."""
    times = [packet.pts or 0 for packet in packets]
    delay = max((later - pts for later, pts in zip(sorted(times), times, strict=True)), default=0)
    for packet, time in zip(packets, sorted(times), strict=True):
        packet.dts = time - delay


def open_encoder(container: OutputContainer, encoding: Encoding, info: VideoInfo) -> Encoder:
    """Add the picture's stream to ``container``, whose header must not have been written.

    Where there is side data that the container stores, the encoder stands beside the stream:
    PyAV gives side data only to streams that are made from a template (:mod:`.side_data`).

    Args:
        container: where to add the stream.
        encoding: codec, pixel format, colour tags and options.
        info: facts about the *output*.
    """
    codec = encoding.standard
    hdr = info.hdr if held_by_container(encoding.muxer, codec) else None
    immersive = info.immersive if can_say(encoding.muxer, codec) else None
    if hdr is not None or immersive is not None:
        return _with_side_data(container, encoding, info, hdr, immersive)
    stream = add_video(container, encoding, info)
    return Encoder(stream, stream.codec_context, Counting.of(encoding, info))


def _with_side_data(
    container: OutputContainer, encoding: Encoding, info: VideoInfo, hdr: HdrMetadata | None,
    immersive: Immersive | None,
) -> Encoder:  # fmt: skip
    context = open_context(encoding, info)
    with template(encoding.standard, hdr or HdrMetadata(), immersive or Immersive()) as model:
        stream = container.add_stream_from_template(model, opaque=True)
    for name in _KNOWN_TO_MUXERS:
        setattr(stream.codec_context, name, getattr(context, name))
    if context.profile is not None:  # DNxHD and DNxHR have names of their own in QuickTime
        stream.codec_context.profile = context.profile
    stream.time_base = clock_time_base(encoding, info)
    return Encoder(stream, context, Counting.of(encoding, info))


def open_context(encoding: Encoding, info: VideoInfo) -> VideoCodecContext:
    """An open encoder that belongs to no stream, set up as PyAV does it for a stream's.

    Args:
        encoding: container, codec, pixel format, colour tags and options.
        info: facts about the *output*.
    """
    context = av.CodecContext.create(encoding.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = info.width, info.height
    context.pix_fmt = stored_as(encoding.codec, encoding.format)
    context.time_base = encoder_time_base(encoding, info)
    context.framerate = bounded(info.rate)
    context.bit_rate, context.bit_rate_tolerance = 0, 128_000
    context.options = opening_options(encoding)
    configure(context, encoding, info)
    if ContainerFormat(encoding.muxer, "w").flags & _GLOBAL_HEADER:
        context.flags |= Flags.global_header
    with defined_memory(context.codec.name), usual_scheduling(context.codec.name):
        context.open()
    return context
