"""An encoder and the stream that its packets go to."""

from dataclasses import dataclass
from functools import lru_cache
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

from vsr.encoding import Encoding, add_video, configure, encoder_time_base
from vsr.encoding.formats import stored_as
from vsr.encoding.scheduling import usual_scheduling
from vsr.frame import VideoInfo
from vsr.hdr import HdrMetadata, held_by_container
from vsr.rationals import bounded
from vsr.sinks.memory import defined_memory
from vsr.sinks.side_data import template

__all__ = ["Encoder", "encode", "open_context", "open_encoder", "writes_captions"]

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
    _has_delivered: bool = False

    @property
    def writes_captions(self) -> bool:
        """Whether closed captions (CTA-708 in ATSC A/53) of the pictures reach the bitstream."""
        return writes_captions(self.context.codec.name)

    def encode(self, picture: VideoFrame | None) -> "list[Packet[Any]]":
        """The packets that are ready after ``picture``; None asks for all that are left."""
        packets = encode(self.context, picture)
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


def encode(context: VideoCodecContext, picture: VideoFrame | None) -> "list[Packet[Any]]":
    """The packets that are ready after ``picture``; None asks for all that are left."""
    with defined_memory(context.codec.name):
        return list(context.encode(picture))


@lru_cache
def writes_captions(codec: str) -> bool:
    """Whether FFmpeg's encoder ``codec`` writes closed captions of its pictures."""
    options = av.Codec(codec, "w").create("video").supported_options.private
    return any(option.name == "a53cc" for option in options)


def _set_dts(packets: "list[Packet[Any]]") -> None:
    """Give all packets of a stream the latest dts that come before their pts."""
    times = [packet.pts or 0 for packet in packets]
    delay = max((later - pts for later, pts in zip(sorted(times), times, strict=True)), default=0)
    for packet, time in zip(packets, sorted(times), strict=True):
        packet.dts = time - delay


def open_encoder(container: OutputContainer, encoding: Encoding, info: VideoInfo) -> Encoder:
    """Add the picture's stream to ``container``, whose header must not have been written.

    Where there is HDR metadata that the container stores, the encoder stands beside the stream:
    PyAV gives side data only to streams that are made from a template (:mod:`.side_data`).

    Args:
        container: where to add the stream.
        encoding: codec, pixel format, colour tags and options.
        info: facts about the *output*.
    """
    codec = av.Codec(encoding.codec, "w").canonical_name
    if info.hdr is not None and held_by_container(encoding.muxer, codec):
        return _with_metadata(container, encoding, info, info.hdr)
    stream = add_video(container, encoding, info)
    return Encoder(stream, stream.codec_context)


def _with_metadata(
    container: OutputContainer, encoding: Encoding, info: VideoInfo, hdr: HdrMetadata
) -> Encoder:
    context = open_context(encoding, info)
    with template(context.codec.canonical_name, hdr) as model:
        stream = container.add_stream_from_template(model, opaque=True)
    for name in _KNOWN_TO_MUXERS:
        setattr(stream.codec_context, name, getattr(context, name))
    if context.profile is not None:  # DNxHD and DNxHR have names of their own in QuickTime
        stream.codec_context.profile = context.profile
    stream.time_base = context.time_base
    return Encoder(stream, context)


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
    context.options = dict(encoding.options)
    configure(context, encoding, info)
    if ContainerFormat(encoding.muxer, "w").flags & _GLOBAL_HEADER:
        context.flags |= Flags.global_header
    with defined_memory(context.codec.name), usual_scheduling(context.codec.name):
        context.open()
    return context
