"""Times of AVI by its index, where something in the middle of the file is not found.

Note [Counted times]
    AVI has no times: a picture is shown by its number, sound by the samples before it. FFmpeg
    counts what it finds. Where a spot of the file is damaged (a disk that fails, zeros where a copy
    had to skip), all that follows comes too early, the picture by other seconds than the sound. The
    index at the end of the file lists every chunk with its place, so a chunk behind the damage
    tells how many are missing before it. An index is believed of a stream whose first chunk is
    where it says, and as long as nothing is to come earlier by it: some programs write places that
    are wrong.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from vsr.ffmpeg import known_fraction

__all__ = ["AviIndex"]

_CHUNK_HEAD = 8
"""Bytes before the data of a chunk: its name and its size."""


class AviIndex:
    """The index of an open AVI file; without one, or of another format, it changes nothing.

    Args:
        container: the input, from which nothing has been read yet.
    """

    def __init__(self, container: InputContainer) -> None:
        indexed = container.format.name == "avi"
        self._streams = {
            stream.index: _StreamIndex(stream)
            for stream in container.streams
            if indexed and len(stream.index_entries) > 1
        }

    def mend(self, packets: Iterator[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """``packets``, all from where reading began, at the times that the index gives them."""
        for index in self._streams.values():
            index.begin_again()
        for packet in packets:
            if packet.size and (own := self._streams.get(packet.stream_index)) is not None:
                own.place(packet)
            yield packet

    def missing(self, stream: Stream) -> Fraction:
        """Seconds of ``stream`` that the index lists, and that were not found so far."""
        index = self._streams.get(stream.index)
        return Fraction(0) if index is None else index.shift * index.time_base


class _StreamIndex:
    """That of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._entries = stream.index_entries
        self._next = 0
        self._unit: int | None = 1 if stream.type == "video" else None
        self._likely: int | None = None
        self._believed: bool | None = None
        self.time_base = known_fraction(stream.time_base) or Fraction(0)
        self.shift = 0
        """What the times of packets lack, in units of the stream's time base."""

    def begin_again(self) -> None:
        """Reading starts elsewhere in the same file; what was learnt of the index stays."""
        self._next = self.shift = 0

    def place(self, packet: Packet[Stream]) -> None:
        """Give ``packet`` its time; one amid a chunk goes with those before it."""
        if packet.dts is None or self._believed is False:
            return
        time = self._listed(packet)
        if time is not None and self._believed is None:
            self._believed = time == packet.dts
        elif time is not None:
            shift = time - packet.dts
            self._believed = shift >= self.shift
            self.shift = max(shift, self.shift)
        packet.dts += self.shift
        if packet.pts is not None:
            packet.pts += self.shift

    def _listed(self, packet: Packet[Stream]) -> int | None:
        """The time that the index has for ``packet``; None where no chunk begins."""
        place = (packet.pos or 0) - _CHUNK_HEAD
        number = self._next
        if number >= len(self._entries) or self._entries[number].pos != place:
            number = bisect_left(self._entries, place, key=lambda entry: entry.pos)
            if number == len(self._entries) or self._entries[number].pos != place:
                return None
        self._next = number + 1
        return self._time(self._entries[number].timestamp, packet.dts or 0)

    def _time(self, listed: int, counted: int) -> int | None:
        """What an index counts, frames or (of most sound) bytes, in units of the time base."""
        if self._unit is None and listed and counted:
            self._learn(listed, counted)
        if self._unit is None:
            return 0 if listed == counted else None  # nothing has gone before it
        return listed // self._unit

    def _learn(self, listed: int, counted: int) -> None:
        """What two chunks agree on is the unit; if they do not, the index is wrong."""
        unit, rest = divmod(listed, counted)
        if rest or self._likely not in (None, unit):
            self._believed = False
        elif self._likely is not None:
            self._unit = unit
        self._likely = unit
