"""Recordings that were joined byte by byte: clocks that start again, counted on.

Transport streams, and the program streams of DVDs, are joined by ``cat``: in mid-file the clock
starts anew, for picture and sound together. Were each stream mended on its own, they would part by
as much as one of them was longer than the other before the join.

Note [Not all at once]
    A demuxer hands out the end of one stream after the beginning of another, and a recording may
    lack a stream that others have. The first clock to fall makes a new part, and decides by how
    much all move. Of a stream that has not come to that part yet, each packet belongs where it
    is nearest to the latest end of picture and sound. A stream that is nowhere near it is the first
    of another part, if the others' clocks are about to fall as well.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

from vsr.ffmpeg import known_fraction

__all__ = ["WRAP", "ClockJoins", "may_start_again"]

_FALL = Fraction(1, 2)
"""Seconds by which a clock falls that starts again; less is a stumble."""
_REMEMBERED = 2
"""Times of a stream below which a new one must lie: one that is wrong makes no join."""
WRAP = Fraction(1 << 33, 90_000)
"""Seconds that a clock of 33 bits counts. FFmpeg adds as many to times that lie a minute before the
first: a clock that falls by more seems to leap."""
_LOOKED_AT = 300
"""Packets in which the other clocks fall where another part begins."""


@dataclass(slots=True)
class _Clock:
    """What is known of one stream, in units of its time base."""

    base: Fraction
    part: int
    """The part of the file that it has come to, counted from 0."""
    offset: int
    """What is added to its times in that part."""
    counts: bool
    """Whether its end is one of picture or sound."""
    latest: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Its times as the file has them."""
    fall: int = field(init=False)
    wrap: int = field(init=False)
    end: int | None = None
    """The latest end of a packet, counted on."""

    def __post_init__(self) -> None:
        self.fall, self.wrap = round(_FALL / self.base), round(WRAP / self.base)

    def unwrapped(self, time: int, near: Fraction) -> int:
        """``time`` as it is in the file; of a stream's first packet by ``near``, in seconds."""
        latest = self.latest[-1] if self.latest else round(near / self.base)
        return time - self.wrap if time - latest > self.wrap // 2 else time

    def goes_on_at(self, time: int) -> bool:
        """Whether ``time`` is next: a decoder's parser may hold the last packet of a part back."""
        return bool(self.latest) and 0 <= time - self.latest[-1] <= self.fall

    def falls_to(self, time: int) -> bool:
        """Whether it starts again at ``time``."""
        return len(self.latest) == _REMEMBERED and time + self.fall < min(self.latest)


def may_start_again(container: InputContainer) -> bool:
    """Whether the clocks of such a file may start again, and a time thus be in several places."""
    return bool(container.format.flags & cast(int, Flags.ts_discont.value))


class ClockJoins:
    """Changes the times of packets, in the order of the file, so that they go on across joins.

    See note [Not all at once].

    Args:
        container: where the packets come from; only of formats whose clocks may start again is
            anything changed.
    """

    def __init__(self, container: InputContainer) -> None:
        self._active = may_start_again(container)
        self._offsets = [Fraction(0)]
        self._clocks: dict[int, _Clock] = {}
        self._coming: deque[Packet[Any]] = deque()
        self._error: av.FFmpegError | None = None
        self._near: Fraction | None = None

    @property
    def joins(self) -> int:
        """How often a clock has started again."""
        return len(self._offsets) - 1

    def mend(self, packets: Iterator[Packet[Any]]) -> Iterable[Packet[Any]]:
        """The same packets, changed."""
        while (packet := self._next(packets)) is not None:
            if self._active:
                self._mend(packet, packets)
            yield packet

    def _next(self, packets: Iterator[Packet[Any]]) -> Packet[Any] | None:
        if self._coming:
            return self._coming.popleft()
        if self._error is not None:
            raise self._error
        return next(packets, None)

    def _mend(self, packet: Packet[Any], packets: Iterator[Packet[Any]]) -> None:
        time = _time(packet)
        if time is None or (clock := self._clock(packet)) is None:
            return
        found, time = time, self._unwrapped(clock, time)
        unsure = clock.part < self.joins or len(clock.latest) < _REMEMBERED
        if unsure and not clock.goes_on_at(time):
            self._catch_up(clock, time, packets)
        elif clock.falls_to(time):
            self._begin_part(clock, time, packets)
        clock.latest.append(time)
        self._near = time * clock.base
        added = time - found + clock.offset
        packet.pts = None if packet.pts is None else packet.pts + added
        packet.dts = None if packet.dts is None else packet.dts + added
        end = time + clock.offset + (packet.duration or 0)
        clock.end = end if clock.end is None else max(clock.end, end)

    def _unwrapped(self, clock: _Clock, time: int) -> int:
        return clock.unwrapped(time, time * clock.base if self._near is None else self._near)

    def _clock(self, packet: Packet[Any]) -> _Clock | None:
        """That of the stream of ``packet``; None without a time base."""
        if (found := self._clocks.get(packet.stream_index)) is not None:
            return found
        if (base := known_fraction(packet.time_base)) is None:
            return None
        counts = packet.stream.type in ("video", "audio")
        clock = _Clock(base, self.joins, round(self._offsets[-1] / base), counts)
        self._clocks[packet.stream_index] = clock
        return clock

    def _catch_up(self, clock: _Clock, time: int, packets: Iterator[Packet[Any]]) -> None:
        """Find the part of a packet whose stream was in an earlier one so far, or in none."""
        if (end := self._end) is None:
            return
        parts = range(clock.part, self.joins + 1)
        behind = {part: end - (time * clock.base + self._offsets[part]) for part in parts}
        part = min(parts, key=lambda part: abs(behind[part]))
        if behind[part] > _FALL and self._others_fall(packets):
            self._begin_part(clock, time, packets)
        elif part != clock.part:
            self._move(clock, part)

    def _others_fall(self, packets: Iterator[Packet[Any]]) -> bool:
        """Whether a clock of the latest part starts again among the coming packets."""
        self._look_ahead(packets)
        for packet in self._coming:
            clock, time = self._clocks.get(packet.stream_index), _time(packet)
            if clock is None or time is None or clock.part < self.joins:
                continue
            if clock.falls_to(self._unwrapped(clock, time)):
                return True
        return False

    def _look_ahead(self, packets: Iterator[Packet[Any]]) -> None:
        while len(self._coming) < _LOOKED_AT and self._error is None:
            try:
                if (packet := next(packets, None)) is None:
                    break
            except av.FFmpegError as error:
                self._error = error  # when its turn has come
            else:
                self._coming.append(packet)

    @property
    def _end(self) -> Fraction | None:
        """Where picture and sound end so far, in seconds."""
        clocks = (clock for clock in self._clocks.values() if clock.counts)
        return max((c.end * c.base for c in clocks if c.end is not None), default=None)

    def _begin_part(self, clock: _Clock, time: int, packets: Iterator[Packet[Any]]) -> None:
        if (end := self._end) is not None:
            self._look_ahead(packets)
            touching = self._touching(clock, time)
            self._offsets.append(end - time * clock.base if touching is None else touching)
        self._move(clock, self.joins)

    def _touching(self, first: _Clock, time: int) -> Fraction | None:
        """What is to be added to a part so that no picture and no sound runs into that before.

        Args:
            first: whose clock fell first.
            time: to where.

        Returns:
            None if not all that was in the part before is found again.
        """
        before = {
            index: clock
            for index, clock in self._clocks.items()
            if clock.counts and clock.part == self.joins and clock.end is not None
        }
        ends = {index: clock.end or 0 for index, clock in before.items()}
        begins = {index: time for index, clock in before.items() if clock is first}
        latest = dict(begins)
        for packet in self._coming:
            index, found = packet.stream_index, _time(packet)
            if index not in before or found is None:
                continue
            found = self._unwrapped(before[index], found)
            if index in begins:
                if found + before[index].fall < latest[index]:
                    break  # here yet another part begins
                latest[index] = found
            elif before[index].falls_to(found):
                begins[index] = latest[index] = found
            else:  # a demuxer hands out the end of one stream behind the beginning of another
                end = found + before[index].offset + (packet.duration or 0)
                ends[index] = max(ends[index], end)
        if len(begins) < len(before):
            return None
        return max((ends[i] - begins[i]) * before[i].base for i in before)

    def _move(self, clock: _Clock, part: int) -> None:
        clock.part, clock.offset = part, round(self._offsets[part] / clock.base)
        clock.latest.clear()


def _time(packet: Packet[Any]) -> int | None:
    return packet.dts if packet.dts is not None else packet.pts
