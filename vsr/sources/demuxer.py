"""The open file: packets in file order, a look ahead, seeking, and where the file really ended."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.errors import SourceError
from vsr.sources.describe import to_fraction
from vsr.sources.opening import choose_stream, open_container
from vsr.sources.relay import packet_end

__all__ = ["Demuxer"]

_log = logging.getLogger(__name__)
_AHEAD_PACKETS = 48
_AHEAD_BYTES = 16 << 20


class Demuxer:
    """One pass over a file, all streams at once.

    Args:
        path: the file.

    Attributes:
        stream: the video stream chosen.
        time_base: seconds per unit of its timestamps.
        notes: a line if there was a choice.
        seen_end: end of the latest packet so far, in seconds.
        seen_video_end: the same for the video stream alone.

    Raises:
        SourceError: the file cannot be opened or has no video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.container: InputContainer = open_container(path)
        try:
            self.stream, self.notes = choose_stream(self.container, path)
        except SourceError:
            self.container.close()
            raise
        self._index = self.stream.index
        self.time_base = to_fraction(self.stream.time_base) or Fraction(1, 90_000)
        self._restart()

    def is_video(self, packet: Packet[Stream]) -> bool:
        """Whether ``packet`` belongs to the chosen stream."""
        return packet.stream_index == self._index

    def times_ahead(self) -> list[int]:
        """Timestamps of the next video packets, which stay to be read."""
        videos = size = 0
        for packet in self._read():
            self._ahead.append(packet)
            videos += self.is_video(packet)
            size += packet.size
            if videos >= _AHEAD_PACKETS or (size > _AHEAD_BYTES and videos > 1):
                break
        times = (p.pts if p.pts is not None else p.dts for p in self._ahead if self.is_video(p))
        return [time for time in times if time is not None]

    def packets(self) -> Iterator[Packet[Stream]]:
        """The rest of the file; the last video packet is empty, which flushes a decoder."""
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._read()

    def seek(self, position: Fraction) -> bool:
        """Go to a key frame before ``position``, as far as the format can."""
        self._restart()
        try:
            self.container.seek(round(position / self.time_base), stream=self.stream)
        except av.FFmpegError as error:
            _log.debug("%s: seek to %.3f s: %s", self._path.name, position, error)
            return False
        return True

    def reopen(self) -> None:
        """Go back to the start of the file, which not every format can do by seeking."""
        self.container.close()
        self.container = open_container(self._path)
        self.stream = self._find_again(self.container)
        self._restart()

    def fresh_context(self) -> VideoCodecContext:
        """Another decoder for the same stream."""
        with open_container(self._path) as container:
            return self._find_again(container).codec_context

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _restart(self) -> None:
        self._ahead: deque[Packet[Stream]] = deque()
        self._demux: Iterator[Packet[Stream]] = self.container.demux()
        self._ended = False
        self.seen_end = self.seen_video_end = Fraction(0)

    def _read(self) -> Iterator[Packet[Stream]]:
        while not self._ended:
            try:
                for packet in self._demux:
                    if packet.size or packet.dts is not None:
                        self._watch(packet)
                        yield packet
            except av.FFmpegError as error:
                _log.warning("%s: reading stopped: %s", self._path.name, error)
            self._ended = True
            flush: Packet[Stream] = Packet()
            flush.stream = self.stream
            yield flush

    def _watch(self, packet: Packet[Stream]) -> None:
        end = packet_end(packet)
        if end is not None:
            self.seen_end = max(self.seen_end, end)
            if self.is_video(packet):
                self.seen_video_end = max(self.seen_video_end, end)

    def _find_again(self, container: InputContainer) -> VideoStream:
        return next(s for s in container.streams.video if s.index == self._index)
