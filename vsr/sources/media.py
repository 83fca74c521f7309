"""One file or pipe as decoded pictures in order, each with a sound timestamp, inside the trim."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path

from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import InputConfig
from vsr.errors import SourceError
from vsr.ffmpeg import known_fraction
from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.sources import describe
from vsr.sources.chapters import lost_chapter_features
from vsr.sources.decoder import Decoder
from vsr.sources.demuxer import Demuxer
from vsr.sources.lookahead import Lookahead, TimedFrame, with_next
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport, start_beyond_end
from vsr.sources.samples import SOUND_AHEAD, is_plain
from vsr.sources.timestamps import Timeline, nominal_rate

__all__ = ["MediaReader"]

_RETRIES = (0, 2, 10)
"""Seconds to seek further back if the frame wanted turns out to be behind; then from the start."""
_LATE = Fraction(1, 2)
"""Seconds; a frame or two are nothing to speak of."""
_TOLERANCE = Fraction(1, 4)
"""Seconds (but at least two frames) that a file may be shorter than its header says."""


class MediaReader:
    """Decodes a video stream of a file or a pipe; to be read once.

    A :class:`vsr.sources.readers.Reader`. The constructor decodes the first frame, and the first
    one wanted if that is another.

    Args:
        path: the file, or :data:`vsr.config.PIPE`.
        config: what the user knows better.
        start: skip to this position, in seconds from the start of the file.
        end: stop before the first frame at or after this position.
        threads: threads of the decoder; None means one per processor, up to 4.
        hold: keep packets of the other streams back until it is known how far the video comes.
        hwaccel: offered to the decoder, which may leave its pictures on a device.
        should_stop: polled while standard input is awaited; True ends the input as its end would.

    Attributes:
        name: the input in a message.
        notes: a line for each decision.
        relay: packets of the other streams.
        time_base: seconds per unit of the timestamps.
        rate: nominal frames per second.
        tags: colour as the container tags it.
        lead: seconds from the start of the file to its first frame.
        start_time: seconds that are subtracted from every timestamp.
        shift: the same for the video, in units of ``time_base``.

    Raises:
        SourceError: the input is missing, is no media file, holds no video that decodes, or ends
            before ``start``.
    """

    def __init__(  # noqa: PLR0913 - all but the first two by keyword
        self,
        path: Path,
        config: InputConfig,
        *,
        start: Fraction,
        end: Fraction | None,
        threads: int | None,
        hold: bool,
        hwaccel: HWAccel | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config, self._threads = config, threads
        self._start, self._end, self._hold = start, end, hold
        self._lookahead = Lookahead()
        self._closed = False
        self._demuxer = Demuxer(path, config, hwaccel, should_stop)
        self._decoder = self._new_decoder()
        self.name, self.notes = self._demuxer.name, list(self._demuxer.notes)
        if self._demuxer.seekable and (lost := lost_chapter_features(path)):  # opened a second time
            self.notes.append(f"chapters become a plain list, without {', '.join(lost)}")
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def container(self) -> InputContainer:
        """The open input."""
        return self._demuxer.container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self._demuxer.stream

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._decoder.codec

    @property
    def count(self) -> int | None:
        """Frames of the whole stream, if the container says."""
        return self.stream.frames or None

    @property
    def length(self) -> Fraction | None:
        """Seconds of the whole input, if it says."""
        if self._config.rate is not None and self.count is not None:
            return self.count / self._config.rate
        end = describe.stream_end(self.stream, self.begin)
        return end or describe.header_length(self.container, self.begin)

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio, None if unknown."""
        return describe.sample_aspect(self.stream)

    @property
    def cropping(self) -> tuple[int, int, int, int]:
        """What the container wants cut: top, bottom, left, right, in pixels."""
        return describe.cropping(self.stream)

    not_finite = 0
    states_fields = False
    sound = None

    @property
    def joins(self) -> int:
        """How often the clock has started again so far, and was counted on."""
        return self._demuxer.joins

    @property
    def decode_errors(self) -> int:
        """Packets that the decoder refused so far."""
        return self._decoder.errors

    @property
    def broken(self) -> str | None:
        """How the input ends in the middle of a frame, once it has been read to its end."""
        return self._demuxer.broken

    @property
    def given_up(self) -> bool:
        """Whether standard input was not waited for any longer."""
        return self._demuxer.given_up

    @property
    def has_side_data(self) -> bool:
        """Whether frames may be asked for side data: PyAV 19 crashes on a PNG's colour profile."""
        return self.codec not in ("png", "apng")

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """FFmpeg's display matrix, 36 bytes."""
        return describe.display_matrix(self.stream, frame if self.has_side_data else None)

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """The stream's field order."""
        return describe.field_order(self.stream, frame)

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """Mastering display and content light, and a line for what is dropped."""
        return describe.hdr_metadata(self.stream, frame) if self.has_side_data else (None, [])

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``; where it has none, the container's."""
        return describe.frame_colour(frame, self.tags)

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input or of the trim."""
        timed = self._next()
        if timed is None or not self._is_past_end(timed):
            return timed
        self._lookahead.appendleft(timed)
        return None

    @property
    def timing(self) -> list[int] | None:
        """What the last frame's duration depends on; None while frames wait."""
        return None if self._lookahead else self._timeline.state

    def resume_timing(self, state: list[int]) -> None:
        """Take over what :attr:`timing` was when the same frame had come."""
        self._timeline.restore(state)

    def skip(self, number: int, pts: int) -> bool:
        """Make the frame at ``pts`` the coming one, decoded from a key frame before it."""
        if not self._demuxer.seekable or self._paced:
            return False
        position = pts * self.time_base
        if not any(self._land(position - back, pts) for back in _RETRIES):
            return False
        repaired = False
        while (timed := self._next()) is not None and timed.pts < pts:
            repaired = repaired or timed.repaired
        if timed is None or timed.pts != pts or repaired or self._decoder.errors:
            return False
        self._lookahead.appendleft(timed)
        return True

    def rewind(self) -> None:
        """Begin again with the first frame wanted."""
        self._reopen()
        if self._start > 0:
            self._seek()

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        return self._lookahead.peek(self._read, count, size)

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """After the last frame: serve the other streams, and look whether the end was missing.

        Args:
            report: where to write what is found.
            stopped_at: where the last frame ended, in seconds and not shifted, if more would
                follow; None if the trim or the input ended.
        """
        report.decode_errors = self._decoder.errors
        if self.joins:
            times = "once" if self.joins == 1 else f"{self.joins} times"
            self.notes.append(
                f"the clock starts again {times}, as where recordings were joined: it is counted "
                "on, for all streams alike"
            )
        if stopped_at is not None or self._lookahead:
            self._read_on(stopped_at)
        else:
            self._look_for_missing_end(report)
        self.relay.finish()

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._lookahead.clear()
            self._decoder.close()
            self._demuxer.close()

    # Before the first frame.

    def _prepare(self) -> None:
        """Decode the first frame, and go to where the trim starts."""
        stream = self.stream
        self.tags = describe.context_colour(stream)
        self.relay = PacketRelay(dense={s.index for s in self.container.streams.audio})
        times, claims = self._demuxer.times_ahead(), describe.claimed_rates(stream)
        self._paced = self._config.rate is not None and self._config.raw_format is None
        if self._paced and self.container.streams.audio:
            self.notes.append("-r gives the picture a time of its own: sound keeps the input's")
        if self._config.rate is not None:
            self.rate = self._config.rate
        else:
            self.rate = nominal_rate(times, self._demuxer.time_base, claims)
            if not times and self._config.raw_format is None:
                given = f"{float(self.rate):.6g} frames a second"
                self.notes.append(f"{self.name}: has no times: {given} (-r says otherwise)")
        self.time_base = 1 / self.rate if self._paced else self._demuxer.time_base
        self._restart_decoding()
        if (first := self._read()) is None:
            raise SourceError(f"{self.name}: {self._why_nothing()}")
        self._lookahead.append(first)
        self.begin = self._begin_time(first)
        self._say_where_it_begins()
        self.start_time = self.begin + self._start
        self._video_begin = Fraction(0) if self._paced else self.begin
        self.lead = first.pts * self.time_base - self._video_begin
        self.shift = round((self._video_begin + self._start) / self.time_base)
        self.relay.limit(
            begin=self.start_time,
            first=self.start_time if self._start > 0 else None,
            stop=None if self._end is None else self.begin + self._end,
            hold=self._hold,
        )
        if self._start > 0:
            self._seek()

    def _say_where_it_begins(self) -> None:
        """Of formats whose clock begins at 0; subtitles may lie ahead of all else."""
        if self.begin >= _LATE and describe.counts_from_zero(self.container):
            self.notes.append(
                f"{self.name}: begins at {float(self.begin):.3f} s by its own clock, and at 0 in "
                "the output: -ss, subtitles and chapters move with it"
            )

    def _new_decoder(self) -> Decoder:
        return Decoder(
            self.stream, self._demuxer.context(), self._threads, self._demuxer.fresh_context
        )

    def _restart_decoding(self) -> None:
        self._lookahead.clear()
        self._decoder.reset()
        self._timeline = Timeline(round(1 / (self.rate * self.time_base)))
        self._packets = self._demuxer.packets()
        self._decoded = self._decode()

    def last_duration(self) -> int:
        """Duration of the last frame of the stream, in units of ``time_base``.

        In Matroska, durations of frames often repeat a default. FFmpeg's DURATION tag says where
        the stream ends, so the rest up to there is taken, if it is less; mkvmerge's is a length of
        unknown origin and is ignored. AVI's header counts dropped frames, so it gives the end.
        """
        usual = self._timeline.last_duration()
        counted = self.container.format.name == "avi" or not self.stream.duration
        own = counted and "_STATISTICS_TAGS" not in self.stream.metadata
        end = describe.stream_end(self.stream, self.begin) if own else None
        if end is None or self._paced:
            return usual
        rest = round((self.begin + end) / self.time_base) - self._timeline.last
        return rest if 0 < rest < usual else usual

    def _why_nothing(self) -> str:
        if self._decoder.errors:
            return (
                f"none of its {self.codec} video could be decoded ({self._decoder.errors} errors)"
            )
        if self._demuxer.broken:
            return self._demuxer.broken
        if self.container.format.name.startswith("mov,") and not self._demuxer.seekable:
            return (
                "its index stands behind the video, which is over when that is known: give it as a"
                " file, or make it with -movflags +faststart"
            )
        return f"its {self.codec} video stream holds no frames"

    def _begin_time(self, first: TimedFrame) -> Fraction:
        """Where the input starts; if it does not say, where its earliest packet does."""
        if (start := describe.container_start(self.container)) is not None:
            return start
        first_time = Fraction(0) if self._paced else first.pts * self.time_base
        return min([first_time, *self.relay.early_times()])

    # Going to the start of the trim.

    def _seek(self) -> None:
        """Leave the first frame at or after the start as the coming one.

        Demuxers seek by decoding time, by byte, or not at all, so where they land is checked; the
        last resort is to decode from the start of the file.
        """
        target = ceil((self._video_begin + self._start) / self.time_base)
        retries = _RETRIES
        if any(is_plain(stream) for stream in self.container.streams.audio):
            retries = (SOUND_AHEAD, *_RETRIES[1:])
        attempts = (back for back in retries if back <= self._start)
        by_time = self._demuxer.seekable and not self._paced
        if by_time and not any(self._land(self.start_time - back, target) for back in attempts):
            self._reopen()
        timed = self._skip_to(target)
        if timed is None and by_time:  # what the file calls the end may lie before a join
            self._reopen()
            timed = self._skip_to(target)
        if timed is None:
            raise start_beyond_end(self.name, self._start)
        self._lookahead.append(timed)
        self._decoder.errors = 0  # those before the start are nobody's concern

    def _skip_to(self, target: int) -> TimedFrame | None:
        """The first frame at or after ``target``, None if there is none."""
        while (timed := self._next()) is not None and timed.pts < target:
            pass
        return timed

    def _reopen(self) -> None:
        """Go back to the start of the file."""
        self.relay.restart()
        self._decoder.close()
        self._demuxer.reopen()
        self._decoder = self._new_decoder()
        self._restart_decoding()

    def _land(self, position: Fraction, target: int) -> bool:
        """Seek; whether decoding resumes at a key frame that is not behind ``target``."""
        self.relay.restart()
        if not self._demuxer.seek(position):
            return False
        self._restart_decoding()
        if (first := self._read()) is None:
            return False
        self._lookahead.append(first)
        return self._decoder.is_key(first.frame) and not first.repaired and first.pts <= target

    # Frames.

    def _next(self) -> TimedFrame | None:
        return self._lookahead.take(self._read)

    def _read(self) -> TimedFrame | None:
        return next(self._decoded, None)

    def _decode(self) -> Iterator[TimedFrame]:
        for (frame, damaged, sar), coming in with_next(self._decode_packets()):
            following = None if coming is None else coming[0].pts
            dts = frame.dts
            if dts is None and not self._timeline.begun:  # a picture without times begins as all
                dts = round((describe.container_start(self.container) or 0) / self.time_base)
            pts, repaired = self._timeline.place(frame.pts, dts, frame.duration, following)
            yield TimedFrame(frame, pts, repaired, damaged, sar)

    def _decode_packets(self) -> Iterator[tuple[VideoFrame, bool, Fraction | None]]:
        number = 0
        for packet in self._packets:
            if not self._demuxer.is_video(packet):
                self.relay.offer(packet)
                continue
            for frame, damaged in self._decoder.decode(packet):
                if self._paced:
                    frame.pts, frame.duration = number, 1
                number += 1
                sar = known_fraction(self.stream.codec_context.sample_aspect_ratio)
                yield frame, damaged, sar

    def _is_past_end(self, timed: TimedFrame) -> bool:
        if self._end is None:
            return False
        return timed.pts * self.time_base >= self._video_begin + self._end

    # After the last frame.

    def _read_on(self, stopped_at: Fraction | None) -> None:
        """Deliver what still belongs to the other streams after the video was stopped early."""
        if stopped_at is not None:
            self.relay.stop_at(stopped_at)
        for packet in self._packets:
            if not self.relay.awaits(packet):
                break
            if not self._demuxer.is_video(packet):
                self.relay.offer(packet)

    def _look_for_missing_end(self, report: SourceReport) -> None:
        """Compare where the packets ended with what the header promised."""
        report.expected_duration = describe.header_length(self.container, self.begin)
        missing = self._demuxer.missing_end(self.begin)
        if missing > max(_TOLERANCE, 2 / self.rate) + describe.empty_edits(self.container):
            report.missing_duration = missing
