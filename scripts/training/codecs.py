"""Real codecs on short sequences, in memory: what goes in as YUV 4:2:0 comes out coded and decoded.

Every encoder runs on one thread, so that the same sequence gives the same bytes.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

__all__ = ["CODECS", "Codec", "quality_codec", "rate_codec", "recode"]

Planes = NDArray[np.uint8]
"""(H * 3 / 2, W): luma above, the chroma planes below, as FFmpeg's yuv420p lies in memory."""

_RATE = 25

_ENCODERS = {
    "mpeg2": ("mpeg2video", "mpeg2video"), "mpeg4": ("mpeg4", "mpeg4"), "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"), "vp9": ("libvpx-vp9", "vp9"),
}  # fmt: skip
CODECS = tuple(_ENCODERS)
"""MPEG-2, MPEG-4 ASP, H.264, HEVC, VP9."""

_COMMON: Mapping[str, Mapping[str, str]] = {
    "mpeg2": {"bf": "2", "g": "12"},
    "mpeg4": {"bf": "2", "g": "240", "flags": "+mv4"},
    "h264": {"preset": "medium", "x264-params": "threads=1:lookahead-threads=1"},
    "hevc": {"preset": "fast", "x265-params": "log-level=none:pools=none:frame-threads=1:wpp=0"},
    "vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "0"},
}


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder with all that decides what it throws away."""

    name: str
    """One of :data:`CODECS`."""
    options: Mapping[str, str] = field(default_factory=dict)
    bit_rate: int | None = None
    """Bits a second at 25 frames a second; None where a quality is set instead."""


def quality_codec(name: str, quality: float, **options: str) -> Codec:
    """A codec at a constant quality.

    Args:
        name: one of :data:`CODECS`.
        quality: quantiser of the MPEG codecs (1 to 31), CRF of the others.
        options: further options of the encoder.
    """
    merged = {**_COMMON[name], **options}
    if name in ("mpeg2", "mpeg4"):
        # FFmpeg's +qscale wants a quality on each frame, which PyAV cannot set; bounds do the same.
        return Codec(name, {**merged, "qmin": f"{quality:.0f}", "qmax": f"{quality:.0f}"})
    if name == "vp9":
        return Codec(name, {**merged, "crf": str(round(quality))}, bit_rate=0)
    return Codec(name, {**merged, "crf": f"{quality:g}"})


def rate_codec(name: str, bit_rate: int, **options: str) -> Codec:
    """A codec at a mean rate of ``bit_rate`` bits a second, at 25 frames a second."""
    return Codec(name, {**_COMMON[name], **options}, bit_rate)


def recode(sequence: Sequence[Planes], codec: Codec) -> tuple[list[Planes], int]:
    """Code and decode a sequence.

    Args:
        sequence: pictures as yuv420p planes, of one even size.
        codec: what to do to them.

    Returns:
        The decoded sequence, of the same length, and how many bytes it took.
    """
    rows, width = sequence[0].shape
    encoder = _open_encoder(codec, width, rows * 2 // 3)
    decoder = _context(_ENCODERS[codec.name][1], "r")
    decoder.thread_count = 1
    decoded: list[Planes] = []
    size = 0
    for packet in _packets(encoder, sequence):
        size += packet.size
        decoded += [_planes(frame) for frame in decoder.decode(packet)]
    decoded += [_planes(frame) for frame in decoder.decode(None)]
    if len(decoded) != len(sequence):
        raise RuntimeError(f"{codec.name}: {len(sequence)} frames in, {len(decoded)} out")
    return decoded, size


def _open_encoder(codec: Codec, width: int, height: int) -> VideoCodecContext:
    encoder = _context(_ENCODERS[codec.name][0], "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, _RATE), Fraction(_RATE)
    encoder.thread_count = 1
    encoder.options = dict(codec.options)
    if codec.bit_rate is not None:
        encoder.bit_rate = codec.bit_rate
    return encoder


def _context(name: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    return cast("VideoCodecContext", av.CodecContext.create(name, mode))


def _packets(
    encoder: VideoCodecContext, sequence: Sequence[Planes]
) -> Iterator[Packet[VideoStream]]:
    for index, planes in enumerate(sequence):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p")
        frame.pts, frame.time_base = index, encoder.time_base
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def _planes(frame: VideoFrame) -> Planes:
    return frame.to_ndarray(format="yuv420p").astype(np.uint8, copy=False)
