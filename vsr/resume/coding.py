"""Encoding one segment, which stands alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from av.codec import Codec
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from vsr.encoding import Encoding
from vsr.frame import Frame, VideoInfo
from vsr.sinks.clock import EncoderClock
from vsr.sinks.encoder import Counting, encode, open_context, writes_captions
from vsr.sinks.pictures import PictureMaker

__all__ = ["CONTAINERS", "Coder", "SegmentCoder", "for_segments", "holds_segments", "rate_notes"]

CONTAINERS = ("matroska", "webm", "mp4", "mov", "nut", "avi", "mpegts")
"""Of which one packet is one picture, whoever wrote it. Not those of animated pictures, where a
picture is what changed since the last."""
_STITCHABLE = "stitchable=1"


def holds_segments(encoding: Encoding) -> bool:
    """Whether a file of ``encoding`` can be joined from segments that were encoded alone."""
    # libvpx hands alpha over beside its packets, and PyAV cannot attach that to others.
    beside = encoding.format.alpha and encoding.codec.startswith("libvpx")
    return encoding.muxer in CONTAINERS and not beside


def for_segments(encoding: Encoding) -> Encoding:
    """``encoding`` with what its encoder must be told, so that headers of all segments are equal.

    x264 fits its headers to the content unless told otherwise. The segments of every encoder are
    closed, whatever its GOPs are like inside, because each begins with a new encoder.
    """
    if encoding.codec not in ("libx264", "libx264rgb"):
        return encoding
    options = dict(encoding.options)
    given = options.get("x264-params")
    options["x264-params"] = f"{given}:{_STITCHABLE}" if given else _STITCHABLE
    return replace(encoding, options=options)


def rate_notes(encoding: Encoding) -> list[str]:
    """What a rate control over seconds means for segments, a line for each surprise."""
    params = ":".join(value for key, value in encoding.options.items() if key.endswith("-params"))
    words = {*encoding.options, *(part.partition("=")[0] for part in params.split(":"))}
    notes = []
    if words & {"bufsize", "maxrate", "vbv-bufsize", "vbv-maxrate"}:
        notes.append("the rate's buffer (VBV) begins anew with each segment")
    elif words & {"b", "bitrate"} and encoding.options.get("b") != "0":
        notes.append("the bit rate is kept in each segment by itself")
    return notes


class Coder(Protocol):
    """Encodes the frames of one segment."""

    times: list[int]
    """The pts that the packets of the frames so far must have."""

    @property
    def extradata(self) -> bytes:
        """The encoder's headers."""

    def encode(self, frame: Frame) -> "list[Packet[Any]]":
        """The packets that are ready after ``frame``."""

    def flush(self) -> "list[Packet[Any]]":
        """The packets that are left."""


class SegmentCoder:
    """An encoder for the frames of one segment.

    Args:
        encoding: codec and options.
        info: facts about the *output*.
        clock: times of the whole film's frames.
        warn: takes a line for what is lost.
    """

    def __init__(
        self, encoding: Encoding, info: VideoInfo, clock: EncoderClock,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._context: VideoCodecContext = open_context(encoding, info)
        self._counting = Counting.of(encoding, info)
        captions = writes_captions(Codec(encoding.codec, "w").name)
        self._pictures = PictureMaker(encoding, clock, captions=captions, warn=warn)
        self.times: list[int] = []
        """When each frame is shown, in the time base of the packets."""

    @property
    def extradata(self) -> bytes:
        """The encoder's headers."""
        return self._context.extradata or b""

    def encode(self, frame: Frame) -> "list[Packet[Any]]":
        """The packets that are ready after ``frame``."""
        picture = self._pictures.make(frame)
        assert picture.pts is not None
        self.times.append(picture.pts)
        return encode(self._context, picture, self._counting)

    def flush(self) -> "list[Packet[Any]]":
        """The packets that are left."""
        return encode(self._context, None, self._counting)
