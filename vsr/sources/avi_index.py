"""Times of AVI by its index, where something in the middle of the file is not found.

Note [Counted times]
    AVI has no times: a picture is shown by its number, sound by the samples before it. FFmpeg
    counts what it finds. Where a spot of the file is damaged (a disk that fails, zeros where a copy
    had to skip), all that follows comes too early, the picture by other seconds than the sound. The
    index at the end of the file lists every chunk with its place, so a chunk behind the damage
    tells how many are missing before it. Some programs write indexes that are wrong. One is
    believed that lists picture and sound, has the first chunk of each where it is, and as long as
    nothing is to come earlier by it; else nothing is moved, so that picture and sound, both too
    early, stay together. Pictures between damage and the next that stands by itself are damaged.
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
        self._streams: dict[int, _StreamIndex] = {}
        if container.format.name == "avi":
            streams = (*container.streams.video, *container.streams.audio)
            self._streams = {stream.index: _StreamIndex(stream) for stream in streams}
        self._believed = all(index.is_there for index in self._streams.values())

    def mend(self, packets: Iterator[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """``packets``, all from where reading began, at the times that the index gives them."""
        for index in self._streams.values():
            index.begin_again()
        for packet in packets:
            if packet.size and (own := self._streams.get(packet.stream_index)) is not None:
                own.count(packet)
                if self._believed:
                    own.place(packet)
                    self._believed = own.believed is not False
            yield packet

    def missing(self, stream: Stream) -> Fraction:
        """Seconds of ``stream`` that are listed, and for which there is a gap."""
        index = self._streams.get(stream.index)
        return Fraction(0) if index is None else index.shift * index.time_base

    def closed_up(self, stream: Stream, size: int) -> Fraction:
        """Seconds of ``stream`` that are listed and were not found, beside those gaps.

        Args:
            stream: the picture, read to its end.
            size: of the file, in bytes, beyond which nothing can be.
        """
        index = self._streams.get(stream.index)
        return Fraction(0) if index is None else index.closed_up(size) * index.time_base


class _StreamIndex:
    """That of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._entries = stream.index_entries
        self.is_there = len(self._entries) > 1
        """Whether the file has it: without, FFmpeg enters what it finds, and that has begun."""
        self._is_video = stream.type == "video"
        self._next = self._found = 0
        self._whole = self._doubtful = False
        self._unit: int | None = 1 if self._is_video else None
        self._likely: int | None = None
        self.believed: bool | None = None
        """Whether it was right so far; None before the first chunk."""
        self.time_base = known_fraction(stream.time_base) or Fraction(0)
        self.shift = 0
        """What the times of packets lack, in units of the stream's time base."""

    def begin_again(self) -> None:
        """Reading starts elsewhere in the same file; what was learnt of the index stays."""
        self._next = self._found = self.shift = 0
        self._doubtful = False

    def count(self, packet: Packet[Stream]) -> None:
        """Note that ``packet``, not yet moved, was found."""
        if self._found == 0:
            self._whole = packet.dts == 0
        self._found += 1

    def closed_up(self, size: int) -> int:
        """Units that are listed in a file of ``size`` bytes, not found, and without a gap."""
        if not (self.is_there and self._whole) or len(self._entries) <= self._found:
            return 0
        places = {entry.pos for entry in self._entries if entry.pos < size}
        return max(0, len(places) - self._found - self.shift)

    def place(self, packet: Packet[Stream]) -> None:
        """Give ``packet`` its time; one amid a chunk goes with those before it."""
        if packet.dts is None:
            return
        if (number := self._listed(packet)) is not None:
            self._compare(packet.dts, number)
        packet.dts += self.shift
        if packet.pts is not None:
            packet.pts += self.shift
        if self._doubtful:
            packet.is_corrupt = True

    def _compare(self, counted: int, number: int) -> None:
        """What entry ``number`` says of the packet that FFmpeg has counted as ``counted``."""
        if (time := self._time(self._entries[number].timestamp, counted)) is None:
            return
        shift = time - counted
        if self.believed is None:
            self.believed = shift == 0
        elif shift < self.shift:
            self.believed = False
        elif self.believed:
            lost = shift > self.shift
            alone = self._entries[number].is_keyframe
            self._doubtful = self._is_video and not alone and (lost or self._doubtful)
            self.shift = shift

    def _listed(self, packet: Packet[Stream]) -> int | None:
        """The number of the entry of ``packet``; None where no chunk begins."""
        place = (packet.pos or 0) - _CHUNK_HEAD
        number = self._next
        if number >= len(self._entries) or self._entries[number].pos != place:
            number = bisect_left(self._entries, place, key=lambda entry: entry.pos)
            if number == len(self._entries) or self._entries[number].pos != place:
                return None
        self._next = number + 1
        return number

    def _time(self, listed: int, counted: int) -> int | None:
        """What an index counts, frames or (of most sound) bytes, in units of the time base."""
        if self._unit is None and listed and counted:
            self._learn(listed, counted)
        if self._unit is None:
            return 0 if listed == counted == 0 else None
        return listed // self._unit

    def _learn(self, listed: int, counted: int) -> None:
        """What two chunks agree on is the unit; if they do not, the index is wrong."""
        unit, rest = divmod(listed, counted)
        if rest or self._likely not in (None, unit):
            self.believed = False
        elif self._likely is not None:
            self._unit = unit
        self._likely = unit
