"""The open input: packets in file order, a look ahead, seeking, and where it really ended."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.config import PIPE, InputConfig
from vsr.ffmpeg import known_fraction
from vsr.sources.avi_index import AviIndex
from vsr.sources.breaks import ends_amid_packet
from vsr.sources.clock_joins import ClockJoins, may_start_again
from vsr.sources.cut_tracks import CutTracks
from vsr.sources.describe import claims_alpha, container_start, header_length, stream_end
from vsr.sources.opening import name_of_input, open_container, unopened_part
from vsr.sources.playlists import SegmentWatch
from vsr.sources.relay import packet_end, packet_time
from vsr.sources.stdin import open_stdin
from vsr.sources.stream_choice import choose_stream

__all__ = ["Demuxer"]

logger = logging.getLogger(__name__)
_AHEAD_PACKETS = 48
_AHEAD_BYTES = 16 << 20
_GROUP_BYTES = 256 << 20
"""Most that lies between two key frames and is kept."""
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of what WebM keeps as a second picture beside the first; FFmpeg's own leave it."""
_WITHOUT_STRUCTURE = ("yuv4mpegpipe", "rawvideo")
"""Formats that are rows of equally large frames: a truncated or misaligned frame shows by its byte
count alone."""


class Demuxer:
    """One pass over a file or a pipe, all streams at once.

    Args:
        path: the file, or :data:`vsr.config.PIPE`.
        config: what the user knows better.
        hwaccel: offered to the decoder.
        should_stop: polled while standard input is awaited; True ends the input as its end would.

    Attributes:
        name: the input in a message.
        stream: the video stream chosen.
        time_base: seconds per unit of its timestamps.
        notes: a line if there was a choice.
        seen_end: end of the latest packet so far, in seconds.
        seen_video_end: the same for the video stream alone.
        broken: how the input ends in the middle of a frame; None if it does not, as far as known.
        is_cut: whether the input ends in the middle of a packet, as recorders leave them.
        ends_early: whether a file does, in a format whose complete files never do.
        stopped_at: where an error ended reading, in seconds as ``seen_end``; None: nothing did.

    Raises:
        SourceError: the input cannot be opened or has no video.
    """

    def __init__(
        self,
        path: Path,
        config: InputConfig,
        hwaccel: HWAccel | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._path, self._config, self._hwaccel = path, config, hwaccel
        self.name = name_of_input(path)
        self._stdin = open_stdin(should_stop) if path == PIPE else None
        self._segments = SegmentWatch(path)
        self.container: InputContainer = open_container(
            path, config, self._stdin, hwaccel, self._segments
        )
        with ExitStack() as opened:
            opened.callback(self.container.close)
            self.stream, self.notes = choose_stream(self.container, self.name, config.video_stream)
            self._index = self.stream.index
            self.time_base = known_fraction(self.stream.time_base) or Fraction(1, 90_000)
            self._begin()
            opened.pop_all()

    @property
    def joins(self) -> int:
        """How often the clock has started again, and was counted on."""
        return self._clock_joins.joins

    @property
    def unfound(self) -> tuple[Fraction, Fraction]:
        """Seconds of picture and of sound, at most, that an index lists and are not in the file."""
        missing = self._avi_index.missing
        sound = (missing(stream) for stream in self.container.streams.audio)
        return missing(self.stream), max(sound, default=Fraction(0))

    @property
    def missing_sound(self) -> Fraction:
        """Seconds at the end of MP4's sound that are listed and not in the file, at most."""
        missing = (self._tracks.missing(stream) for stream in self.container.streams.audio)
        return max(missing, default=Fraction(0))

    def lost_segments(self, until: Fraction | None) -> list[str]:
        """A sentence for each segment of a playlist of which something is missing.

        Args:
            until: not for those that begin there or later, in seconds from the start of the input.
        """
        return self._segments.sentences(until)

    def closed_up(self) -> Fraction:
        """Seconds of picture that an index lists, of which nothing is left, not even a gap."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        return self._avi_index.closed_up(self.stream, size)

    @property
    def given_up(self) -> bool:
        """Whether standard input was not waited for any longer."""
        return self._stdin is not None and self._stdin.given_up

    @property
    def seekable(self) -> bool:
        """Whether there is a way back."""
        return self._stdin is None and not _is_stream(self._path)

    def is_video(self, packet: Packet[Stream]) -> bool:
        """Whether ``packet`` belongs to the chosen stream."""
        return packet.stream_index == self._index

    def times_ahead(self) -> list[int]:
        """Timestamps of the next video packets, which stay to be read.

        Two are enough of formats that count their frames, and have no others.
        """
        videos = size = 0
        most = 2 if self._structureless else _AHEAD_PACKETS
        for packet in self._read():
            self._ahead.append(packet)
            videos += self.is_video(packet)
            size += packet.size
            if videos >= most or (size > _AHEAD_BYTES and videos > 1):
                break
        times = (p.pts if p.pts is not None else p.dts for p in self._ahead if self.is_video(p))
        return [time for time in times if time is not None]

    def packets(self) -> Iterator[Packet[Stream]]:
        """The rest of the file; the last video packet is empty, which flushes a decoder."""
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._read()

    def seek(self, position: Fraction) -> bool:
        """Go to a key frame before ``position``, as far as the format can.

        Where a clock may start again, a time can be in several places, of which FFmpeg would find
        any. There the file is read from its start, which takes a second for 2 GB or so from memory.
        """
        if not self.seekable:
            return False
        self._restart()
        again = may_start_again(self.container)
        try:
            if again:
                self.container.seek(0, unsupported_byte_offset=True)
            else:
                self.container.seek(round(position / self.time_base), stream=self.stream)
        except av.FFmpegError as error:
            logger.debug("%s: seek to %.3f s: %s", self.name, position, error)
            return False
        return self._read_up_to(position) if again else True

    def _read_up_to(self, position: Fraction) -> bool:
        """Leave what begins with the last key frame before ``position`` as the coming packets.

        Those of other streams that end behind ``position`` stay as well.
        """
        size = 0
        for packet in self._read():
            time = packet_time(packet) if self.is_video(packet) else None
            if time is not None and time <= position and packet.is_keyframe:
                kept = [p for p in self._ahead if self._lasts_beyond(p, position)]
                size = sum(p.size for p in kept)
                self._ahead.clear()
                self._ahead.extend(kept)
            self._ahead.append(packet)
            size += packet.size
            beyond = time is not None and (packet.dts or 0) * self.time_base > position
            if beyond or size > _GROUP_BYTES:
                break
        return size <= _GROUP_BYTES

    def _lasts_beyond(self, packet: Packet[Stream], position: Fraction) -> bool:
        """Whether ``packet`` is another stream's, and something of it lies behind ``position``."""
        end = None if self.is_video(packet) else packet_end(packet)
        return end is not None and end > position

    def reopen(self) -> None:
        """Go back to the start of the file, which not every format can do by seeking."""
        self.container.close()
        self._segments = SegmentWatch(self._path)
        self.container = open_container(
            self._path, self._config, hwaccel=self._hwaccel, segments=self._segments
        )
        self.stream = self._find_again(self.container)
        self._begin()

    def context(self) -> VideoCodecContext:
        """The decoder for the stream: FFmpeg's own, unless another sees more of it."""
        return _seeing_alpha(self.stream) or self.stream.codec_context

    def fresh_context(self) -> VideoCodecContext:
        """Another decoder for the same stream, in main memory."""
        if (context := _seeing_alpha(self.stream)) is not None:
            return context
        if self.seekable:
            with open_container(self._path, self._config) as container:
                return self._find_again(container).codec_context
        return _create(self.stream.codec_context.codec.name, self.stream)

    def missing_end(self, begin: Fraction) -> Fraction:
        """Seconds that the header promises, and no packet reached; less than 0 if they went beyond.

        Args:
            begin: where the input starts, in seconds.
        """
        # What is called the end is any part's, or is counted from where the first segment began.
        if self.joins or self._segments.is_first_lost:
            return Fraction(0)
        length = header_length(self.container, begin)
        # Without a start time the "header" is FFmpeg's guess from the bit rate.
        if length is None or container_start(self.container) is None:
            return Fraction(0)
        video = stream_end(self.stream, begin) if self.seen_video_end else None
        missing = length - (self.seen_end - begin)
        return missing if video is None else max(missing, video - (self.seen_video_end - begin))

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _begin(self) -> None:
        self._avi_index = AviIndex(self.container)
        self._tracks = CutTracks(self.container, None if self._stdin else self._path)
        self._restart()

    def _restart(self) -> None:
        self._ahead: deque[Packet[Stream]] = deque()
        packets = self._avi_index.mend(self._tracks.packets())
        self._demux = self._segments.packets(packets, self.container)
        self._clock_joins = ClockJoins(self.container)
        self._ended = False
        self.broken: str | None = None
        self.is_cut = self.ends_early = False
        self.stopped_at: Fraction | None = None
        self.seen_end = self.seen_video_end = Fraction(0)
        self._frame_bytes: int | None = None
        self._position = self._furthest = 0

    def _read(self) -> Iterator[Packet[Stream]]:
        while not self._ended:
            try:
                for packet in self._clock_joins.mend(self._demux):
                    if (packet.size or packet.dts is not None) and self._is_whole(packet):
                        self._watch(packet)
                        yield packet
            except av.FFmpegError as error:
                self._break(error)
            if self.given_up:
                self.broken = None
            else:
                self._look_for_rest()
            self._ended = True
            flush: Packet[Stream] = Packet()
            flush.stream = self.stream
            yield flush

    @property
    def _structureless(self) -> bool:
        return self.container.format.name in _WITHOUT_STRUCTURE

    def _is_whole(self, packet: Packet[Stream]) -> bool:
        if not self._structureless:
            return True
        if self._frame_bytes is None:
            self._frame_bytes = packet.size
        if packet.size < self._frame_bytes:
            self.broken = f"it ends in the middle of a frame, {packet.size} bytes into it"
            return False
        self._position = (packet.pos or 0) + packet.size
        return True

    def _break(self, error: av.FFmpegError) -> None:
        at = float(self.seen_end - (container_start(self.container) or 0))
        if self._structureless:
            self.broken = "a frame does not begin where the header says: the size in it is wrong"
        elif (part := unopened_part(error)) is not None:
            self.broken = f"{part}: what it lists breaks off there, at {at:.2f} s"
        else:
            self.stopped_at = self.seen_end
            logger.warning("%s: reading stopped at %.2f s: %s", self.name, at, error.strerror)

    def _look_for_rest(self) -> None:
        """FFmpeg is silent about a piece that is cut short."""
        in_blocks = self.container.format.name.startswith("matroska")
        furthest = self._furthest if in_blocks else None
        if self._stdin is not None and (missing := self._stdin.missing(furthest)):
            self.broken = f"it breaks off in the middle of a packet, at least {missing} bytes short"
        if self._stdin is not None and self.container.format.name == "mpegts":
            self.is_cut = self._stdin.missing_of_ts > 0
        if self._stdin is None and self._path.is_file():
            name, furthest = self.container.format.name, self._furthest
            self.ends_early = ends_amid_packet(self._path, name, furthest)
        if self.container.format.name != "yuv4mpegpipe" or self.broken or _is_stream(self._path):
            return
        total = self._stdin.total if self._stdin is not None else self._path.stat().st_size
        if rest := total - self._position:
            inside = f"in the middle of a frame, {rest} bytes into it"
            self.broken = f"it ends {inside if self._position else 'ahead of its first frame'}"

    def _watch(self, packet: Packet[Stream]) -> None:
        self._furthest = max(self._furthest, packet.pos or 0)
        end = packet_end(packet)
        if end is not None:
            self.seen_end = max(self.seen_end, end)
            if self.is_video(packet):
                self.seen_video_end = max(self.seen_video_end, end)

    def _find_again(self, container: InputContainer) -> VideoStream:
        return next(s for s in container.streams.video if s.index == self._index)


def _seeing_alpha(stream: VideoStream) -> VideoCodecContext | None:
    """A decoder for the alpha that the container says a stream has; None if FFmpeg's own does."""
    name = _WITH_ALPHA.get(stream.codec_context.codec.canonical_name)
    if name is None or not claims_alpha(stream):
        return None
    try:
        return _create(name, stream)
    except av.codec.codec.UnknownCodecError:
        return None


def _create(decoder: str, stream: VideoStream) -> VideoCodecContext:
    theirs, context = stream.codec_context, CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.extradata = theirs.extradata
    context.width, context.height = theirs.width, theirs.height
    return context


def _is_stream(path: Path) -> bool:
    """Whether ``path`` names a FIFO or a device, whose size says nothing."""
    return path != PIPE and path.exists() and not path.is_file()
