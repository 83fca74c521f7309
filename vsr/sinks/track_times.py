"""When the packets of a stream beside the picture are shown, by the clock of the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from av.packet import Packet

from vsr.ffmpeg import fraction

__all__ = ["Placement", "TrackClock", "fill_dts"]

_FALLEN = Fraction(1, 2)
"""Seconds from which a clock that falls back has begun anew, rather than stumbled."""


@dataclass(slots=True, kw_only=True)
class Placement:
    """Counts times from the start of the output, and finds what lies ahead of it."""

    offset: int
    """Subtracted from timestamps, in the source stream's time base."""
    earliest: int
    """Packets that start before this are cut, in the source stream's time base."""
    timeless: bool
    """Cover art: one packet, shown all the time."""
    lasting: bool
    """Subtitles: one that is still shown when the output starts is shown from there on."""
    cut: int = 0
    """Packets."""
    hidden: int = 0
    """Of those that were cut: what the input says not to play, as an edit list does."""
    unheard: Fraction = Fraction(0)
    """Seconds of the others."""

    def move(self, packet: "Packet[Any]") -> bool:
        """Count its times from the start of the output; False if it lies before that."""
        if self.timeless:
            packet.pts = packet.dts = 0
            return True
        if packet.dts is not None:
            packet.dts -= self.offset
        if packet.pts is not None:
            packet.pts -= self.offset
        start = packet.pts if packet.pts is not None else packet.dts
        if start is None or start >= self.earliest:
            return True
        end = start + (packet.duration or 0)
        if self.lasting and end > 0:
            packet.pts = packet.dts = 0
            packet.duration = end
            return True
        self._note_cut(packet)
        return False

    def _note_cut(self, packet: "Packet[Any]") -> None:
        self.cut += 1
        if packet.is_discard:
            self.hidden += 1
        else:
            self.unheard += (packet.duration or 0) * fraction(packet.time_base)


def fill_dts(packets: "Sequence[Packet[Any]]", first: "Packet[Any]") -> None:
    """Give ``packets`` without a dts one each, ahead of that of the ``first`` that has one.

    Matroska has no dts. FFmpeg makes them up from the times of B-frames, except for the first few,
    as many as the decoder holds back.
    """
    assert first.dts is not None
    shown = sorted(p.pts for p in (*packets, first) if p.pts is not None)
    step = min((b - a for a, b in pairwise(shown)), default=1)
    for ahead, packet in enumerate(reversed(packets), 1):
        packet.dts = first.dts - ahead * step


@dataclass(slots=True, kw_only=True)
class TrackClock:
    """Makes the dts of a stream rise as the muxer demands; all its packets are in one time base.

    Where the source's clock falls back by more than half a second, everything after continues
    where the last packet ended; smaller stumbles are levelled out one by one. So does a packet
    without any time.
    """

    strict: bool
    """The muxer wants every dts above the last, not only at or above it."""
    sparse: bool
    """Subtitles, between which there may be nothing: their clock has never begun anew."""
    lowest: int | None = None
    """The lowest dts that the muxer takes; None ahead of the first packet."""
    end: int = 0
    """Where the last packet ended."""
    repaired: int = 0
    _jump: int = 0  # added since the source's clock fell back

    def repair(self, packet: "Packet[Any]") -> None:
        """Give ``packet`` times that the muxer takes."""
        found = packet.dts if packet.dts is not None else packet.pts
        dts = self.end if found is None else found + self._jump
        dts = self._risen(dts, fraction(packet.time_base))
        self.repaired += found is None or abs(dts - found) > 1  # one tick is rounding
        pts = dts if packet.pts is None else packet.pts + self._jump
        packet.pts, packet.dts = max(pts, dts), dts
        self.lowest = dts + self.strict
        self.end = dts + (packet.duration or 0)

    def _risen(self, dts: int, base: Fraction) -> int:
        """``dts``, or the lowest that the muxer takes; a clock that began anew is moved there."""
        if self.lowest is None or dts >= self.lowest:
            return dts
        if (self.lowest - dts) * base <= _FALLEN or self.sparse:
            return self.lowest
        goes_on = max(self.end, self.lowest)
        self._jump += goes_on - dts
        return goes_on
