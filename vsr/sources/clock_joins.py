"""Recordings that were joined byte by byte: clocks that start again, counted on.

Transport streams, and the program streams of DVDs, are joined by ``cat``: in mid-file the clock
starts anew, for picture and sound together. Were each stream mended on its own, they would part by
as much as one of them was longer than the other before the join.

Note [Not all at once]: a demuxer hands out the end of one stream after the beginning of another. So
each stream keeps its old offset until its own clock falls; the first one to fall decides by how
much all move, the others follow it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

from vsr.ffmpeg import known_fraction

__all__ = ["ClockJoins"]

_FALL = Fraction(1, 2)
"""Seconds by which a clock falls that starts again; less is a stumble."""
_REMEMBERED = 2
"""Times of a stream below which a new one must lie: one that is wrong makes no join."""


@dataclass(slots=True)
class _Clock:
    """What is known of one stream."""

    joins: int
    """Those that it has followed."""
    latest: deque[Fraction] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Its times, in seconds as the file has them."""


class ClockJoins:
    """Changes the times of packets, in the order of the file, so that they go on across joins.

    Args:
        container: where the packets come from; only of formats whose clocks may start again is
            anything changed.
    """

    def __init__(self, container: InputContainer) -> None:
        self._active = bool(container.format.flags & cast(int, Flags.ts_discont.value))
        self._offsets = [Fraction(0)]
        self._clocks: dict[int, _Clock] = {}
        self._end: Fraction | None = None

    @property
    def joins(self) -> int:
        """How often a clock has started again."""
        return len(self._offsets) - 1

    def mend(self, packets: "Iterable[Packet[Any]]") -> "Iterable[Packet[Any]]":
        """The same packets, changed."""
        for packet in packets:
            if self._active:
                self._mend(packet)
            yield packet

    def _mend(self, packet: "Packet[Any]") -> None:
        base, time = known_fraction(packet.time_base), _time(packet)
        if base is None or time is None:
            return
        seconds = time * base
        clock = self._clocks.setdefault(packet.stream_index, _Clock(self.joins))
        if len(clock.latest) == _REMEMBERED and seconds + _FALL < min(clock.latest):
            self._follow(clock, seconds)
        clock.latest.append(seconds)
        offset = self._offsets[clock.joins]
        ticks = round(offset / base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.stream.type in ("video", "audio"):
            end = seconds + offset + (packet.duration or 0) * base
            self._end = end if self._end is None else max(self._end, end)

    def _follow(self, clock: _Clock, seconds: Fraction) -> None:
        if clock.joins == self.joins and self._end is not None:
            self._offsets.append(self._end - seconds)
        clock.joins = self.joins
        clock.latest.clear()


def _time(packet: "Packet[Any]") -> int | None:
    return packet.dts if packet.dts is not None else packet.pts
