"""One file or pipe as decoded pictures in order, each with a sound timestamp, inside the trim."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import InputConfig
from vsr.errors import SourceError
from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.sources import describe
from vsr.sources.chapters import lost_chapter_features
from vsr.sources.demuxer import Demuxer
from vsr.sources.lookahead import TimedFrame
from vsr.sources.playback import Playback
from vsr.sources.reader import InputFacts
from vsr.sources.report import SourceReport
from vsr.sources.seeking import Part, find_part, go_to_frame, go_to_start
from vsr.sources.siting import meaning_of_left

__all__ = ["MediaReader"]

_FAR_APART = Fraction(1)
"""Seconds between pictures of which the last may well be shown for another time."""
_LATE = Fraction(1, 2)
"""Seconds; a frame or two are nothing to speak of."""
_ROUNDING = Fraction(1, 1000)
"""Seconds by which what is told as the beginning may lie off the first picture's own time."""
_LAST = 4
"""Usual spacings that the last picture of AVI may be shown for."""
_TOLERANCE = Fraction(1, 4)
"""Seconds (but at least two frames) that a file may be shorter than its header says."""


class MediaReader:
    """Decodes a video stream of a file or a pipe; to be read once.

    A :class:`vsr.sources.reader.Reader`. The constructor decodes the first frame, and the first
    one wanted if that is another. What is decoded comes from :mod:`vsr.sources.playback`; what the
    file says of it, from :mod:`vsr.sources.describe`.

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
        facts: what is known of the file.

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
        self._config = config
        self._demuxer = Demuxer(path, config, hwaccel, should_stop)
        with ExitStack() as opened:
            opened.callback(self._demuxer.close)
            self._playback = Playback(self._demuxer, config, threads)
            opened.callback(self.close)
            self.name, self.relay = self._demuxer.name, self._playback.relay
            self._time_base = self._playback.pace.time_base
            self.notes = list(self._demuxer.notes)
            given = len(self.container.chapters())
            # opened once more
            if self._demuxer.seekable and (lost := lost_chapter_features(path, given)):
                self.notes.append(f"chapters become a plain list, without {', '.join(lost)}")
            self.notes += self._playback.pace.notes
            # as long as the decoder has not replaced them
            tags = describe.container_colour(self.stream)
            first = self._first_frame()
            self._part = self._from_first(first, find_part(self._playback, first, start, end))
            self._go_to_part(hold=hold)
            self.facts = self._find_facts(first, tags)
            opened.pop_all()

    # Before the first frame.

    def _first_frame(self) -> TimedFrame:
        """That of the file, which stays to be read."""
        if (first := self._playback.next()) is None:
            raise SourceError(f"{self.name}: {self._playback.why_nothing()}")
        self._playback.put_back(first)
        return first

    def _from_first(self, first: TimedFrame, part: Part) -> Part:
        """``part`` of an input that begins with its ``first`` frame at the latest.

        Where the times of decoding are not told and pictures come seconds apart, FFmpeg takes the
        first subtitle for the beginning.
        """
        begun = first.pts * self._time_base
        is_true = part.begin - begun < _ROUNDING or first.repaired
        if is_true or not describe.counts_from_zero(self.container):
            return part
        return replace(part, begin=begun, video_begin=begun)

    def _go_to_part(self, *, hold: bool) -> None:
        part = self._part
        # Of formats whose clock begins at 0; subtitles may lie ahead of all else.
        if part.begin >= _LATE and describe.counts_from_zero(self.container):
            self.notes.append(
                f"begins at {float(part.begin):.3f} s by its own clock, and at 0 in "
                "the output: -ss, subtitles and chapters move with it"
            )
        first = part.start_time if part.start > 0 else None
        self.relay.limit(begin=part.start_time, first=first, stop=part.end_time, hold=hold)
        if part.start > 0:
            go_to_start(self._playback, part)

    def _find_facts(self, first: TimedFrame, tags: Colour) -> InputFacts:
        """Some of them are known only when a frame has been decoded."""
        container, stream, part = self.container, self.stream, self._part
        codec, flags = self._playback.codec, container.format.flags
        return InputFacts(
            kind=str(container.format.name), codec=codec, rate=self._playback.pace.rate,
            has_times=self._playback.pace.has_times,
            time_base=self._time_base, start_time=part.start_time,
            origin=part.video_start, skipped=part.start,
            lead=first.pts * self._time_base - part.video_begin, count=stream.frames or None,
            length=self._length(), tags=tags, left_means=meaning_of_left(stream, tags.siting),
            sar=describe.sample_aspect(stream), cropping=describe.cropping(stream),
            claims_alpha=describe.claims_alpha(stream),
            has_side_data=codec not in ("png", "apng"),  # PyAV 19 crashes on a PNG's ICC profile
            may_leap=bool(flags & cast(int, Flags.ts_discont.value)),
            is_awaited=not self._demuxer.seekable, has_other_streams=len(container.streams) > 1,
        )  # fmt: skip

    def _length(self) -> Fraction | None:
        """Seconds of the whole input, if it says."""
        if self._config.rate is not None and self.stream.frames:
            return self.stream.frames / self._config.rate
        end = describe.stream_end(self.stream, self._part.begin)
        return end or describe.header_length(self.container, self._part.begin)

    # The open file.

    @property
    def container(self) -> InputContainer:
        """The open input."""
        return self._demuxer.container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self._demuxer.stream

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of the video as far as the file says."""
        # MPEG's headers state the largest rate, a container the mean of all streams.
        said = (self.stream.codec_context.bit_rate, self.container.bit_rate)
        return min((rate for rate in said if rate), default=None)

    # What has happened so far.

    @property
    def joins(self) -> int:
        """How often the clock has started again so far, and was counted on."""
        return self._demuxer.joins

    @property
    def decode_errors(self) -> int:
        """Packets that the decoder refused so far."""
        return self._playback.errors

    @property
    def broken(self) -> str | None:
        """How the input ends in the middle of a frame, once it has been read to its end."""
        if self._playback.has_waiting:  # the packets have been, and the part ends before them
            return None
        return self._demuxer.broken

    @property
    def given_up(self) -> bool:
        """Whether standard input was not waited for any longer."""
        return self._demuxer.given_up

    # Frames.

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input or of the trim."""
        timed = self._playback.next()
        if timed is None or not self._part.is_over(timed.pts * self._time_base):
            return timed
        self._playback.put_back(timed)
        return None

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        return self._playback.peek(count, size)

    @property
    def timing(self) -> list[int] | None:
        """What the last frame's duration depends on; None while frames wait."""
        if self._playback.has_waiting or any(self._demuxer.unfound):
            return None
        return self._playback.timeline.state

    def resume_timing(self, state: list[int]) -> None:
        """Restore the state that :attr:`timing` had when the same frame had come."""
        self._playback.timeline.restore(state)

    def skip(self, number: int, pts: int) -> bool:
        """Make the frame at ``pts`` the coming one, decoded from a key frame before it."""
        return go_to_frame(self._playback, pts)

    def rewind(self) -> None:
        """Begin again with the first frame wanted."""
        self._playback.reopen()
        if self._part.start > 0:
            go_to_start(self._playback, self._part)

    # What a frame says, completed by the container.

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """FFmpeg's display matrix, 36 bytes."""
        return describe.display_matrix(self.stream, frame if self.facts.has_side_data else None)

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """The stream's field order."""
        return describe.field_order(self.stream, frame)

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """Mastering display and content light, and a line for what is dropped."""
        return describe.hdr_metadata(self.stream, frame) if self.facts.has_side_data else (None, [])

    def immersive(self, frame: VideoFrame) -> tuple[Immersive | None, list[str]]:
        """Whether a picture holds two views or is a sphere, and a line for what is dropped."""
        return describe.immersive(self.stream, frame) if self.facts.has_side_data else (None, [])

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``; where it has none, the container's."""
        return describe.frame_colour(frame, self.facts.tags)

    # The end.

    def last_duration(self) -> int:
        """Duration of the last frame, in units of ``time_base``: up to where the stream ends.

        Where frames are seconds apart, the median says little of the last, and the file's end more.
        AVI that is whole counts on to where its last picture ends, also if that is later.
        """
        timeline, begin, pace = self._playback.timeline, self._part.begin, self._playback.pace
        usual = timeline.last_duration()
        if pace.counted:
            return usual
        # Of 16.68 ms Matroska says 16: the end would lie too early for what restores such times.
        exact = 1 / (pace.rate * self._time_base)
        usual = round(exact) if usual < exact < usual + 1 else usual
        ends = [describe.last_frame_end(self.stream, begin)]
        if usual * self._time_base > _FAR_APART:
            ends.append(describe.header_length(self._demuxer.container, begin))
        rests = (
            round((begin + end) / self._time_base) - timeline.last
            for end in ends if end is not None
        )  # fmt: skip
        longest = usual - 1
        if describe.has_end(self._demuxer.container, begin):
            longest = _LAST * usual
        return min((rest for rest in rests if 0 < rest <= longest), default=usual)

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """After the last frame: serve the other streams, and look whether the end was missing.

        Args:
            report: where to write what is found.
            stopped_at: where the last frame ended, in seconds and not shifted, if more would
                follow; None if the trim or the input ended.
        """
        report.decode_errors = self._playback.errors
        if lost := self._playback.lost_ahead:
            report.lost_ahead = lost
            several = "1 packet" if lost == 1 else f"{lost} packets"
            self.notes.append(
                f"begins amid a group of pictures: {several} of the picture, ahead of the first key"
                " frame, could not be decoded"
            )
        report.unfound_duration, report.unfound_sound = self._demuxer.unfound
        until = self._part.end_time if stopped_at is None else stopped_at
        until = None if until is None else until - self._part.begin
        report.lost_segments = self._demuxer.lost_segments(until)
        if self.joins:
            times = "once" if self.joins == 1 else f"{self.joins} times"
            self.notes.append(
                f"the clock starts again {times}, as where recordings were joined: it is counted "
                "on, for all streams alike"
            )
        if stopped_at is not None or self._playback.has_waiting:
            self._playback.serve_others(stopped_at)
        else:
            self._look_for_missing_end(report)
        self.relay.finish()

    def _look_for_missing_end(self, report: SourceReport) -> None:
        """Compare where the packets ended with what the header promised."""
        report.is_cut, report.ends_early = self._demuxer.is_cut, self._demuxer.ends_early
        if (stopped_at := self._demuxer.stopped_at) is not None:
            report.unreadable_from = stopped_at - self._part.begin
        report.expected_duration = describe.header_length(self.container, self._part.begin)
        closed_up = self._demuxer.closed_up()
        missing = max(self._demuxer.missing_end(self._part.begin), closed_up)
        tolerance = max(_TOLERANCE, 2 / self.facts.rate) + describe.empty_edits(self.container)
        if closed_up or missing > tolerance:
            report.missing_duration = missing
            report.has_end = describe.has_end(self.container, self._part.begin)
        if (sound := self._demuxer.missing_sound) > report.missing_duration + tolerance:
            report.missing_sound = sound

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        self._playback.close()
