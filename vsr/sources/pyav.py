"""Any file that FFmpeg reads, as frames: decoding, timestamps, colour, trimming."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Self

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.colour import complete_colour
from vsr.errors import SourceError, UnsupportedFormatError
from vsr.frame import Colour, Frame, PixelFormat, Range, VideoInfo
from vsr.sources import describe
from vsr.sources.decoder import Decoder
from vsr.sources.demuxer import Demuxer
from vsr.sources.planes import convert, native_format, planes_of, same_layout
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport
from vsr.sources.timestamps import Timeline, nominal_rate

__all__ = ["PyAVSource"]

_log = logging.getLogger(__name__)

_RETRIES = (0, 2, 10)
"""Seconds to seek further back if the frame wanted turns out to be behind; then from the start."""
_PATIENCE = Fraction(10)
"""Seconds of file to read on for the other streams after the video has been stopped."""
_TOLERANCE = Fraction(1, 4)
"""Seconds (but at least two frames) that a file may be shorter than its header says."""


@dataclass(slots=True)
class _Timed:
    """A decoded frame with its place in time, in units of the stream and not shifted."""

    frame: VideoFrame
    pts: int
    repaired: bool
    damaged: bool


class PyAVSource:
    """A media file as an iterable of frames, to be iterated once.

    The constructor opens the file and decodes its first frame (and the first one wanted, if that
    is another). Everything may then move to another thread; one thread at a time may use it.

    Args:
        path: the file.
        start: skip to this position, in seconds from the start of the file.
        end: stop before the first frame at or after this position.
        frames: stop after this many frames.
        threads: threads of the decoder; None means one per processor, up to 4.

    Attributes:
        info: the stream, as far as it is known before its frames; count and duration are those of
            the part that is asked for.
        report: counters, complete when the iteration is.
        notes: one line for each automatic decision.
        start_time: seconds that are subtracted from every timestamp.

    Raises:
        SourceError: the file is missing, is no media file, holds no video that decodes, or ends
            before ``start``.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        frames: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self.report = SourceReport()
        self.notes: list[str] = []
        self._start, self._end, self._frames = start or Fraction(0), end, frames
        self._threads = threads
        self._colours: dict[Colour, Colour] = {}
        self._pending: deque[_Timed] = deque()
        self._started = self._closed = False
        self._demuxer = Demuxer(path)
        self._decoder = self._new_decoder()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def container(self) -> InputContainer:
        """The open file."""
        return self._demuxer.container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self._demuxer.stream

    @property
    def relay(self) -> set[int]:
        """Indices of the other streams whose packets are wanted; to be set before iterating."""
        return self._relay.wanted

    @relay.setter
    def relay(self, indices: set[int]) -> None:
        self._relay.wanted = set(indices)

    @property
    def packets(self) -> deque[Packet[Stream]]:
        """Packets of the streams in :attr:`relay`, in file order, timestamps not shifted.

        Appended by the thread that iterates; another thread may pop them from the left.
        """
        return self._relay.packets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and stop the decoder; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._pending.clear()
            self._decoder.close()
            self._demuxer.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._started or self._closed:
            raise ValueError(f"{self.path}: this source has been read or closed: open it again")
        self._started = True
        return self._run()

    # Before the first frame

    def _prepare(self) -> None:
        """Decode the first frame, describe the stream, and go to where the trim starts."""
        stream, self._time_base = self.stream, self._demuxer.time_base
        self._note(*self._demuxer.notes)
        self._tags = describe.context_colour(stream)
        self._relay = PacketRelay(dense={s.index for s in self.container.streams.audio})
        times, claims = self._demuxer.times_ahead(), describe.claimed_rates(stream)
        self._rate = nominal_rate(times, self._time_base, claims)
        self._restart_decoding()
        if (first := next(self._decoded, None)) is None:
            raise SourceError(f"{self.path}: {self._why_nothing()}")
        self._pending.append(first)
        self._begin = self._begin_time(first)
        self.start_time = self._begin + self._start
        self._shift = round(self.start_time / self._time_base)
        self.info = self._describe(first.frame)
        self._relay.limit(
            first=self.start_time if self._start > 0 else None,
            stop=None if self._end is None else self._begin + self._end,
            hold=self._frames is not None,
        )
        if self._start > 0:
            self._seek()

    def _new_decoder(self) -> Decoder:
        return Decoder(self.stream, self._threads, self._demuxer.fresh_context)

    def _restart_decoding(self) -> None:
        self._pending.clear()
        self._decoder.reset()
        self._timeline = Timeline(round(1 / (self._rate * self._time_base)))
        self._packets = self._demuxer.packets()
        self._decoded = self._decode()

    def _why_nothing(self) -> str:
        codec = self.stream.codec_context.codec.canonical_name
        if self._decoder.errors:
            return f"none of its {codec} video could be decoded ({self._decoder.errors} errors)"
        return f"its {codec} video stream holds no frames"

    def _begin_time(self, first: _Timed) -> Fraction:
        """Where the file starts; if it does not say, where its earliest packet does."""
        if (start := describe.container_start(self.container)) is not None:
            return start
        return min([first.pts * self._time_base, *self._relay.early_times()])

    def _describe(self, frame: VideoFrame) -> VideoInfo:
        stream, format = self.stream, self._native(frame)
        self._length = describe.stream_end(stream, self._begin) or describe.header_length(
            self.container, self._begin
        )
        frames, duration = self._expected()
        info = VideoInfo(
            width=frame.width, height=frame.height, format=format, colour=Colour(),
            time_base=self._time_base, rate=self._rate, frames=frames, duration=duration,
            sar=describe.sample_aspect(stream),
            display_matrix=describe.display_matrix(stream, frame),
            field_order=describe.field_order(stream, frame),
            codec=stream.codec_context.codec.canonical_name,
        )  # fmt: skip
        self._first_layout = (frame.width, frame.height, frame.format.name)
        return replace(info, colour=self._colour_of(frame, info))

    def _native(self, frame: VideoFrame) -> PixelFormat:
        try:
            format = native_format(frame)
        except UnsupportedFormatError as error:
            raise UnsupportedFormatError(f"{self.path}: {error}") from error
        if format.name != frame.format.name:
            self._note(f"pixel format {frame.format.name} is converted to {format.name}")
        return format

    def _expected(self) -> tuple[int | None, Fraction | None]:
        """Frames and seconds to come out, as far as the container says."""
        length, count = self._length, self.stream.frames or None
        if length is not None and (self._start > 0 or self._end is not None):
            length = max(min(length, self._end or length) - self._start, Fraction(0))
            count = None
        if count is None and length is not None:
            count = max(1, round(length * self._rate))
        if self._frames is not None and (count is None or count > self._frames):
            count, length = self._frames, self._frames / self._rate
        return count, length

    def _note(self, *lines: str) -> None:
        for line in lines:
            if line not in self.notes:
                self.notes.append(line)
                _log.info("%s: %s", self.path.name, line)

    # Going to the start of the trim

    def _seek(self) -> None:
        """Leave the first frame at or after the start as the pending one.

        Demuxers seek by decoding time, by byte, or not at all, so where they land is checked; the
        last resort is to decode from the start of the file.
        """
        target = ceil(self.start_time / self._time_base)
        attempts = (back for back in _RETRIES if back <= self._start)
        if not any(self._land(self.start_time - back, target) for back in attempts):
            self._relay.restart()
            self._decoder.close()
            self._demuxer.reopen()
            self._decoder = self._new_decoder()
            self._restart_decoding()
        while (timed := self._next()) is not None and timed.pts < target:
            pass
        if timed is None:
            raise SourceError(
                f"{self.path}: the start, {float(self._start):g} s, lies beyond its end"
            )
        self._pending.append(timed)
        self._decoder.errors = 0  # those before the start are nobody's concern

    def _land(self, position: Fraction, target: int) -> bool:
        """Seek; whether decoding resumes at a key frame that is not behind ``target``."""
        self._relay.restart()
        if not self._demuxer.seek(position):
            return False
        self._restart_decoding()
        if (first := next(self._decoded, None)) is None:
            return False
        self._pending.append(first)
        return first.frame.key_frame and not first.repaired and first.pts <= target

    # Frames

    def _run(self) -> Iterator[Frame]:
        self._relay.start()
        current: _Timed | None = None
        stopped = False
        while (coming := self._next()) is not None:
            if current is not None:
                yield self._finish(current, coming.pts - current.pts)
            current = None
            if stopped := self.report.frames == self._frames or self._is_past_end(coming):
                break
            current = coming
        if current is not None:
            yield self._finish(current, self._timeline.last_duration())
        self.report.decode_errors = self._decoder.errors
        if stopped:
            self._read_on()
        else:
            self._look_for_missing_end()
        self._relay.finish()

    def _next(self) -> _Timed | None:
        return self._pending.popleft() if self._pending else next(self._decoded, None)

    def _decode(self) -> Iterator[_Timed]:
        for packet in self._packets:
            if not self._demuxer.is_video(packet):
                self._relay.offer(packet)
                continue
            for frame, damaged in self._decoder.decode(packet):
                pts, repaired = self._timeline.place(frame.pts, frame.dts, frame.duration)
                yield _Timed(frame, pts, repaired, damaged)

    def _is_past_end(self, timed: _Timed) -> bool:
        return self._end is not None and timed.pts * self._time_base >= self._begin + self._end

    def _finish(self, timed: _Timed, duration: int) -> Frame:
        """Count a frame and make what is handed out."""
        info, report = self.info, self.report
        report.frames += 1
        report.corrupt_frames += timed.damaged
        report.repaired_pts += timed.repaired
        report.decode_errors = self._decoder.errors
        self._finished_at = (timed.pts + duration) * self._time_base
        self._relay.release(self._finished_at)
        return Frame(
            planes=planes_of(self._conform(timed.frame), info.format), format=info.format,
            width=info.width, height=info.height, colour=self._colour_of(timed.frame, info),
            pts=timed.pts - self._shift, time_base=self._time_base, duration=duration,
            corrupt=timed.damaged,
        )  # fmt: skip

    def _conform(self, frame: VideoFrame) -> VideoFrame:
        """``frame`` in the size of the first one and in the pixel format that is handed out."""
        info = self.info
        width, height, name = self._first_layout
        same = (frame.width, frame.height) == (width, height)
        if not (same and same_layout(frame.format.name, name)):
            self.report.reformatted_frames += 1
        if same and same_layout(frame.format.name, info.format.name):
            return frame
        return convert(frame, info.format, width, height, matrix=info.colour.matrix)

    def _colour_of(self, frame: VideoFrame, info: VideoInfo) -> Colour:
        """What ``frame`` says of its colour, the gaps filled; guesses are noted once."""
        tagged = describe.frame_colour(frame, self._tags)
        converted = not same_layout(frame.format.name, info.format.name)
        if converted and info.format.family == "gray" and not tagged.range:
            tagged = replace(tagged, range=Range.FULL)  # bitmaps and floats have no headroom
        if tagged not in self._colours:
            try:
                self._colours[tagged], guesses = complete_colour(
                    tagged, width=info.width, height=info.height, format=info.format,
                    codec=info.codec,
                )  # fmt: skip
            except UnsupportedFormatError as error:
                raise UnsupportedFormatError(f"{self.path}: {error}") from error
            self._note(*guesses)
        return self._colours[tagged]

    # After the last frame

    def _read_on(self) -> None:
        """Deliver what still belongs to the other streams after the video was stopped early."""
        if self.report.frames == self._frames:
            self._relay.stop_at(self._finished_at)
        for packet in self._packets:
            if not self._relay.awaits(packet, _PATIENCE):
                break
            if not self._demuxer.is_video(packet):
                self._relay.offer(packet)

    def _look_for_missing_end(self) -> None:
        """Compare where the packets ended with what the header promised."""
        seen, seen_video = self._demuxer.seen_end, self._demuxer.seen_video_end
        length = describe.header_length(self.container, self._begin)
        self.report.expected_duration = length
        self.report.seen_duration = seen - self._begin
        # Without a start time the "header" is FFmpeg's guess from the bit rate.
        if length is None or describe.container_start(self.container) is None:
            return
        video = describe.stream_end(self.stream, self._begin)
        missing = [length - (seen - self._begin)]
        if video is not None:
            missing.append(video - (seen_video - self._begin))
        if max(missing) > max(_TOLERANCE, 2 / self._rate):
            self.report.missing_duration = max(missing)
