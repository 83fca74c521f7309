"""MP4 and MOV that a crash cut off: what is whole behind the first sample that is missing.

A fragment holds the samples of one track behind those of another. So when it is cut, tracks end at
different times. FFmpeg hands samples out in the order of decoding, and at the first one that is not
in the file it says that the file has ended. Asked again, it goes on with the next sample.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.index import IndexEntry
from av.packet import Packet
from av.stream import Stream

from vsr.ffmpeg import known_fraction

__all__ = ["CutTracks"]

_MOST_ENDS = 10_000
"""How often in a row FFmpeg may say that the file has ended: once for each sample that is missing
ahead of one that is there."""


class CutTracks:
    """The tracks of an open MP4 or MOV; of a complete one, or of another format, nothing differs.

    Args:
        container: the input.
        path: the file that it is; None for a pipe.
    """

    def __init__(self, container: InputContainer, path: Path | None) -> None:
        self._container, self._size = container, None
        if path is not None and path.is_file() and container.format.name.startswith("mov,"):
            self._size = path.stat().st_size

    def packets(self) -> Iterator[Packet[Stream]]:
        """The packets of all streams, to the last one that begins and ends in the file."""
        found: dict[int, int | None] = {}
        for packet in self._container.demux():
            if packet.size:
                found[packet.stream_index] = packet.pos
            yield packet
        ends, last = 0, self._last_places()
        while ends < _MOST_ENDS and any(found.get(index) != last[index] for index in last):
            ends += 1
            for packet in self._container.demux():
                if packet.size:
                    ends, found[packet.stream_index] = 0, packet.pos
                    yield packet

    def missing(self, stream: Stream) -> Fraction:
        """Seconds at the end of ``stream`` that are listed, and of which the file holds nothing."""
        if self._size is None or not len(entries := stream.index_entries):
            return Fraction(0)
        whole = self._last_whole(stream)
        begin = entries[0] if whole is None else whole
        base = known_fraction(stream.time_base) or Fraction(0)
        return (entries[-1].timestamp - begin.timestamp) * base

    def _last_places(self) -> dict[int, int]:
        """Where the last whole sample lies, in bytes, of each stream that has one, by its index.

        Empty if the file is not cut.
        """
        streams = [one for one in self._container.streams if len(one.index_entries)]
        if not any(self._is_beyond(stream.index_entries[-1]) for stream in streams):
            return {}
        last = {stream.index: self._last_whole(stream) for stream in streams}
        return {index: entry.pos for index, entry in last.items() if entry is not None}

    def _last_whole(self, stream: Stream) -> IndexEntry | None:
        entries = stream.index_entries
        places = range(len(entries) - 1, -1, -1)
        return next((entries[at] for at in places if not self._is_beyond(entries[at])), None)

    def _is_beyond(self, entry: IndexEntry) -> bool:
        return self._size is not None and entry.pos + entry.size > self._size
