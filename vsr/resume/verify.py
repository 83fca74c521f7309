"""A last look at a finished file, before it gets its name."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from os import fspath
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from vsr.encoding.streams import is_cover_art
from vsr.errors import SinkError
from vsr.ffmpeg import explain, fraction

__all__ = ["Expected", "verify"]

_UNTIMED = ("avi",)
"""Containers that count frames and store no times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the picture's stream must be."""

    name: str
    """The output in a message."""
    muxer: str
    """FFmpeg's name of the container."""
    place: int
    """Which of the file's video streams it is, covers not counted."""
    time_base: Fraction
    """Seconds of a unit of what follows."""
    pts: array[int]
    """When each frame is shown, in order."""
    end: int
    """When the last frame ends."""


def verify(path: Path, expected: Expected) -> None:
    """Read the packets of ``path`` again, without decoding: number, order, times, length.

    Raises:
        SinkError: the file is not what was to be written; with the first thing that is wrong.
    """
    with (
        explain(f"{expected.name}: the finished file cannot be read again", SinkError),
        av.open(f"file:{fspath(path)}") as container,
    ):
        pictures = [s for s in container.streams.video if not is_cover_art(s)]
        stream = pictures[expected.place]
        times = _read(container.demux(stream))
        problem = _problem(times, fraction(stream.time_base), expected)
    if problem:
        raise SinkError(f"{expected.name}: the finished file is wrong: {problem}")


@dataclass(slots=True)
class _Times:
    """Of a file's packets, in the order of coding, in units of its time base."""

    packets: int = 0
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))

    @property
    def end(self) -> int | None:
        """When the last picture ends; None where that is not said.

        MP4 and MOV keep the time from one decoding to the next, which is how long a picture is
        shown only if all are coded in the order in which they are shown, or come at an even pace.
        """
        if len(self.durations) != len(self.pts) or not self.pts:
            return None
        decoding = len(self.dts) == len(self.pts) and all(
            after - before == lasting
            for (before, after), lasting in zip(pairwise(self.dts), self.durations, strict=False)
        )
        reordered = any(after < before for before, after in pairwise(self.pts))
        paces = self.durations[:-1] or self.durations  # the last one makes up for the whole
        if decoding and reordered and max(paces) - min(paces) > 1:
            return None
        return max(map(int.__add__, self.pts, self.durations))


def _read(packets: "Iterable[Packet[Any]]") -> _Times:
    times = _Times()
    for packet in packets:
        if not packet.size:
            continue
        times.packets += 1
        if packet.dts is not None:
            times.dts.append(packet.dts)
        if packet.pts is not None:
            times.pts.append(packet.pts)
            if packet.duration:
                times.durations.append(packet.duration)
    return times


def _problem(times: _Times, unit: Fraction, expected: Expected) -> str | None:
    if times.packets != len(expected.pts):
        return f"it has {times.packets} frames instead of {len(expected.pts)}"
    if any(after <= before for before, after in pairwise(times.dts)):
        return "decoding times do not rise"
    if expected.muxer in _UNTIMED:
        return None
    if len(times.pts) != times.packets:
        return f"{times.packets - len(times.pts)} frames have no time"
    return _wrong_times(times, unit, expected)


def _wrong_times(times: _Times, unit: Fraction, expected: Expected) -> str | None:
    shown, base = sorted(times.pts), expected.time_base
    start, first = shown[0], expected.pts[0]
    tolerance = max(unit, base)
    for number, (found, wanted) in enumerate(zip(shown, expected.pts, strict=True)):
        now, then = (found - start) * unit, (wanted - first) * base
        if abs(now - then) > tolerance:
            return f"frame {number} is shown at {float(now):.3f} s instead of {float(then):.3f} s"
    if times.end is None:
        return None
    now, then = (times.end - start) * unit, (expected.end - first) * base
    if abs(now - then) > max(2 * unit, then / times.packets):
        return f"the picture lasts {float(now):.3f} s instead of {float(then):.3f} s"
    return None
