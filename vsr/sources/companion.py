"""A file whose sound, subtitles and the rest go beside pictures that come from elsewhere."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.config import PIPE, InputConfig
from vsr.encoding.streams import Timecode
from vsr.errors import ConfigError, SourceError
from vsr.ffmpeg import known_fraction
from vsr.sources import describe
from vsr.sources.avi_index import AviIndex
from vsr.sources.clock_joins import ClockJoins, may_start_again
from vsr.sources.opening import open_container
from vsr.sources.playlists import SegmentWatch
from vsr.sources.relay import PacketRelay, packet_time
from vsr.sources.samples import SOUND_AHEAD
from vsr.sources.stream_choice import choose_stream

__all__ = ["Companion", "MadeSound"]

logger = logging.getLogger(__name__)
_NOTED = Fraction(1)
"""Seconds that a file may go on after the pictures without a word."""
_LEAD = Fraction(1, 2)
"""Seconds that packets are read ahead of the pictures, so that muxers can interleave them."""
_TEXT_AHEAD = 10
"""Seconds ahead of where a part begins at which a subtitle may begin that is still shown there: few
stay longer, and to read that much again costs little where nothing is decoded."""


class MadeSound(Protocol):
    """Sound that is made while it is read, from its beginning on as often as it is opened."""

    name: str
    """What makes it, in a message."""
    length: Fraction
    """Seconds."""

    def open(self) -> InputContainer:
        """It as a media file that can be sought in."""


class Companion:
    """Demuxes a file beside the pictures; a :class:`vsr.encoding.streams.StreamSource`.

    Nothing is decoded. The pictures take the place of its video, and get the metadata of that.

    Args:
        path: the file.
        video: the number of that video, if the pictures come from this file.
        sound: what to read in place of the file.
        self_contained: refuse formats that name other files.

    Attributes:
        container: the open file.
        stream: the video stream that the pictures stand for; None if there is none.
        notes: a line for what may surprise.
        begin: where the file starts, in seconds.
        lead: seconds from there to the first picture of ``stream``; None if that is not known.
        start_time: seconds to subtract from all timestamps.
        cut_short: whether the pictures were asked to stop before their input ends.
        timecode: that of the pictures, if their own file has one.
        sound: what is read in place of a file; None of files.

    Raises:
        SourceError: the file is missing, or no media file.
        ConfigError: it is standard input, which the pictures may need.
    """

    def __init__(
        self, path: Path, video: int | None = None, *, sound: MadeSound | None = None,
        self_contained: bool = False,
    ) -> None:  # fmt: skip
        self._path, self._video, self.sound = path, video, sound
        if path == PIPE:
            raise ConfigError("--audio-from takes a file: standard input is for pictures")
        self._config = InputConfig(self_contained=self_contained)
        self._segments = SegmentWatch(path)
        self.container: InputContainer = (
            open_container(path, self._config, segments=self._segments)
            if sound is None else sound.open()
        )  # fmt: skip
        self.name, self.notes = str(path), list[str]()
        with ExitStack() as opened:
            opened.callback(self.container.close)
            self.stream: VideoStream | None = self._find_video(video)
            self._avi_index = AviIndex(self.container)
            self.begin = describe.container_start(self.container) or Fraction(0)
            self.lead = self._find_lead()
            self._relay = PacketRelay(dense={s.index for s in self.container.streams.audio})
            opened.pop_all()
        self.start_time, self.cut_short = self.begin, False
        self.timecode: Timecode | None = None
        self._demuxed: Iterator[Packet[Stream]] = iter(())
        self._reached: Fraction | None = None
        self._end: Fraction | None = None
        self._closed = False

    @property
    def relay(self) -> set[int]:
        """Indices of the streams whose packets are wanted; filled before :meth:`start`."""
        return self._relay.wanted

    @property
    def packets(self) -> deque[Packet[Stream]]:
        """Packets of those streams in file order, not shifted."""
        return self._relay.packets

    def trim(self, start: Fraction, end: Fraction | None, *, cut_short: bool = False) -> None:
        """Leave out what lies before ``start`` and from ``end`` on, seconds from the file's start.

        Timestamps will be counted from ``start``.

        Args:
            start: where to begin.
            end: where to stop; None to read on.
            cut_short: whether the pictures, too, were asked to stop before their input ends.
        """
        self.cut_short = cut_short
        self.start_time = self.begin + start
        self._end = None if end is None else self.begin + end
        self._relay.limit(
            begin=self.start_time, first=self.start_time if start > 0 else None, stop=self._end,
            hold=True,
        )  # fmt: skip

    def again(self) -> Companion:
        """The same file with the same trim, to be read once more."""
        other = Companion(
            self._path, self._video, sound=self.sound,
            self_contained=self._config.self_contained,
        )  # fmt: skip
        other.begin, other.timecode = self.begin, self.timecode
        end = None if self._end is None else self._end - self.begin
        other.trim(self.start_time - self.begin, end, cut_short=self.cut_short)
        return other

    def start(self) -> None:
        """The wanted streams are known from here on."""
        # Where recordings may be joined, a time can be in several places: all has to be read.
        if self.start_time > self.begin and self.relay and not may_start_again(self.container):
            try:
                position = max(self.start_time - self._ahead(), self.begin)
                self.container.seek(int(position * av.time_base))
            except av.FFmpegError as error:
                logger.debug("%s: seek: %s", self.name, error)
        self._relay.start()
        self._demuxed = self._read()

    def advance(self, until: Fraction) -> None:
        """Read packets up to a time.

        Args:
            until: seconds from where timestamps are counted.
        """
        goal = self.start_time + until + _LEAD
        while self.relay and (self._reached is None or self._reached < goal):
            if self._take() is None:
                break
        self._relay.release(self.start_time + until)

    def finish(self, until: Fraction, *, stopped: bool) -> None:
        """Read the rest, up to the end of the trim.

        Args:
            until: where the pictures ended, in seconds from where timestamps are counted.
            stopped: whether more pictures would follow: the other streams then end there, too.
        """
        if stopped:
            self._relay.stop_at(self.start_time + until)
        self._relay.finish()
        while self.relay and (packet := self._take()) is not None:
            if not self._relay.awaits(packet):
                break
        ended = self.start_time - self.begin + until if stopped or self._end is not None else None
        self.notes += self._segments.sentences(ended)
        beyond = (self._reached or Fraction(0)) - self.start_time - until
        if not stopped and self._end is None and beyond > _NOTED:
            self.notes.append(f"{self.name} goes on for {float(beyond):.1f} s after the pictures")

    def close(self) -> None:
        """Close the file; harmless if done before."""
        if not self._closed:
            self._closed = True
            self.container.close()

    def _find_video(self, wanted: int | None) -> VideoStream | None:
        try:
            return choose_stream(self.container, self.name, wanted)[0]
        except SourceError:
            return None

    def _ahead(self) -> int:
        """Seconds ahead of the part at which a packet that is wanted may begin."""
        subtitles = {stream.index for stream in self.container.streams.subtitles}
        return _TEXT_AHEAD if subtitles & self.relay else SOUND_AHEAD

    def _find_lead(self) -> Fraction | None:
        if self.stream is None or self.stream.start_time is None:
            return None
        time_base = known_fraction(self.stream.time_base)
        return None if time_base is None else self.stream.start_time * time_base - self.begin

    def _take(self) -> Packet[Stream] | None:
        """Offer the next packet to the relay."""
        packet = next(self._demuxed, None)
        if packet is not None:
            if (time := packet_time(packet)) is not None:
                self._reached = time if self._reached is None else max(time, self._reached)
            self._relay.offer(packet)
        return packet

    def _read(self) -> Iterator[Packet[Stream]]:
        try:
            packets = self._avi_index.mend(self.container.demux())
            packets = self._segments.packets(packets, self.container)
            for packet in ClockJoins(self.container).mend(packets):
                if packet.size or packet.dts is not None:
                    yield packet
        except av.FFmpegError as error:
            logger.warning("%s: reading stopped: %s", self.name, error)
