"""Whether sound and picture still meet: read off the packets of a file, without decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from os import fspath
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.encoding.streams import is_cover_art
from vsr.ffmpeg import fraction
from vsr.report import FrameTimes

__all__ = ["Displacement", "Timing", "measure_displacement", "read_timing"]


@dataclass(slots=True)
class Timing:
    """When the packets of a file are shown, in seconds."""

    pts: list[Fraction] = field(default_factory=list)
    """Of the picture's packets, in order of display."""
    end: Fraction | None = None
    """Where the picture ends; a last frame without duration is taken as long as the one before."""
    audio_ends: list[Fraction | None] = field(default_factory=list)
    """Where each audio stream ends, in their order; None for one without packets."""


def read_timing(path: Path, *, video: int | None = 0, start: Fraction = Fraction(0)) -> Timing:
    """Read the times of all packets of a file.

    Args:
        path: the file.
        video: which of its video streams is the picture, covers not counted; None reads audio only.
        start: seconds to subtract from every time.

    Raises:
        av.FFmpegError: it cannot be read.
    """
    with av.open(f"file:{fspath(path)}") as container:
        picture = None if video is None else _pictures(container)[video]
        places = {stream.index: place for place, stream in enumerate(container.streams.audio)}
        timing, spans = Timing(audio_ends=[None] * len(places)), _Spans()
        for packet in container.demux():
            if not packet.size or packet.pts is None:
                continue
            base, index = fraction(packet.time_base), packet.stream.index
            begin, end = packet.pts * base - start, _end(packet) * base - start
            if picture is not None and index == picture.index:
                timing.pts.append(begin)
                spans.add(begin, end)
            elif index in places:
                last = timing.audio_ends[places[index]]
                timing.audio_ends[places[index]] = end if last is None else max(last, end)
        timing.end = spans.end(decoding=container.format.name.startswith("mov"))
    timing.pts.sort()
    if len(timing.pts) > 1 and timing.end == timing.pts[-1]:
        timing.end += timing.pts[-1] - timing.pts[-2]
    return timing


@dataclass(slots=True)
class _Spans:
    """Where the packets of a picture begin and end, in the order of coding."""

    first: Fraction | None = None
    """Where the earliest begins."""
    total: Fraction = Fraction(0)
    latest: Fraction = Fraction(0)
    last: Fraction = Fraction(0)
    """End of the packet that was added last."""

    def add(self, begin: Fraction, end: Fraction) -> None:
        """Add the next packet."""
        self.latest = end if self.first is None else max(self.latest, end)
        self.first = begin if self.first is None else min(self.first, begin)
        self.total += end - begin
        self.last = end

    def end(self, *, decoding: bool) -> Fraction | None:
        """Where the picture ends; None if there was no packet.

        Args:
            decoding: whether the ends say how far apart packets are decoded, as in MP4 and MOV.
                Then one that is decoded ahead of a gap seems to be shown for as long as that. But
                together they last as long as the film; or the last one ends with it, where that
                is longer (:mod:`vsr.sinks.container` sees to that).
        """
        if self.first is None or not decoding:
            return None if self.first is None else self.latest
        return max(self.first + self.total, self.last)


def _pictures(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not is_cover_art(stream)]


def _end(packet: "Packet[Stream]") -> int:
    return (packet.pts or 0) + (packet.duration or 0)


@dataclass(frozen=True, slots=True)
class Displacement:
    """How far frames have moved in time, in seconds."""

    shift: Fraction
    """All together: the first one's way."""
    largest: Fraction
    """The furthest that any has moved beyond that."""


def measure_displacement(times: FrameTimes, found: Sequence[Fraction]) -> Displacement | None:
    """Compare when frames were to be shown with when they are; None if some are missing."""
    if not found or len(times.pts) != len(found):
        return None
    moved = [after - pts * times.time_base for pts, after in zip(times.pts, found, strict=True)]
    shift = moved[0]
    return Displacement(shift, max(abs(way - shift) for way in moved))
