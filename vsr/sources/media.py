"""One file or pipe as decoded pictures in order, each with a sound timestamp, inside the trim."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import InputConfig
from vsr.errors import SourceError
from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.sources import describe
from vsr.sources.chapters import lost_chapter_features
from vsr.sources.demuxer import Demuxer
from vsr.sources.lookahead import TimedFrame
from vsr.sources.playback import Playback
from vsr.sources.report import SourceReport
from vsr.sources.seeking import Part, go_to_frame, go_to_start

__all__ = ["MediaReader"]

_LATE = Fraction(1, 2)
"""Seconds; a frame or two are nothing to speak of."""
_TOLERANCE = Fraction(1, 4)
"""Seconds (but at least two frames) that a file may be shorter than its header says."""


class MediaReader:
    """Decodes a video stream of a file or a pipe; to be read once.

    A :class:`vsr.sources.readers.Reader`. The constructor decodes the first frame, and the first
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
        self._config = config
        self._demuxer = Demuxer(path, config, hwaccel, should_stop)
        self._playback = Playback(self._demuxer, config, threads)
        self.name, self.relay = self._demuxer.name, self._playback.relay
        self.rate, self.time_base = self._playback.pace.rate, self._playback.pace.time_base
        self.notes = list(self._demuxer.notes)
        if self._demuxer.seekable and (lost := lost_chapter_features(path)):  # opened once more
            self.notes.append(f"chapters become a plain list, without {', '.join(lost)}")
        self.notes += self._playback.pace.notes
        self.tags = describe.context_colour(self.stream)
        try:
            self._part = self._find_part(start, end)
            self._begin(hold=hold)
        except BaseException:
            self.close()
            raise

    def _find_part(self, start: Fraction, end: Fraction | None) -> Part:
        """Where the part lies, by the first frame, which stays to be read."""
        if (first := self._playback.next()) is None:
            raise SourceError(f"{self.name}: {self._why_nothing()}")
        self._playback.put_back(first)
        counted = self._playback.pace.counted
        begin = describe.container_start(self.container)
        if begin is None:  # it is where the earliest packet is
            first_time = Fraction(0) if counted else first.pts * self.time_base
            begin = min([first_time, *self.relay.early_times()])
        video_begin = Fraction(0) if counted else begin
        self.lead = first.pts * self.time_base - video_begin
        return Part(start=start, end=end, begin=begin, video_begin=video_begin)

    def _begin(self, *, hold: bool) -> None:
        """Go to where the part starts."""
        part = self._part
        # Of formats whose clock begins at 0; subtitles may lie ahead of all else.
        if part.begin >= _LATE and describe.counts_from_zero(self.container):
            self.notes.append(
                f"{self.name}: begins at {float(part.begin):.3f} s by its own clock, and at 0 in "
                "the output: -ss, subtitles and chapters move with it"
            )
        self.start_time = part.start_time
        self.shift = round(part.video_start / self.time_base)
        first = part.start_time if part.start > 0 else None
        self.relay.limit(begin=part.start_time, first=first, stop=part.end_time, hold=hold)
        if part.start > 0:
            go_to_start(self._playback, part)

    def _why_nothing(self) -> str:
        if self._playback.errors:
            return (
                f"none of its {self.codec} video could be decoded ({self._playback.errors} errors)"
            )
        if self._demuxer.broken:
            return self._demuxer.broken
        if self.container.format.name.startswith("mov,") and not self._demuxer.seekable:
            return (
                "its index stands behind the video, which is over when that is known: give it as a"
                " file, or make it with -movflags +faststart"
            )
        return f"its {self.codec} video stream holds no frames"

    # Facts.

    not_finite = 0
    states_fields = False
    sound = None

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
        return self._playback.codec

    @property
    def count(self) -> int | None:
        """Frames of the whole stream, if the container says."""
        return self.stream.frames or None

    @property
    def length(self) -> Fraction | None:
        """Seconds of the whole input, if it says."""
        if self._config.rate is not None and self.count is not None:
            return self.count / self._config.rate
        end = describe.stream_end(self.stream, self._part.begin)
        return end or describe.header_length(self.container, self._part.begin)

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio, None if unknown."""
        return describe.sample_aspect(self.stream)

    @property
    def cropping(self) -> tuple[int, int, int, int]:
        """What the container wants cut: top, bottom, left, right, in pixels."""
        return describe.cropping(self.stream)

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

    # Frames.

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input or of the trim."""
        timed = self._playback.next()
        if timed is None or not self._part.is_over(timed.pts * self.time_base):
            return timed
        self._playback.put_back(timed)
        return None

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        return self._playback.peek(count, size)

    @property
    def timing(self) -> list[int] | None:
        """What the last frame's duration depends on; None while frames wait."""
        return None if self._playback.has_waiting else self._playback.timeline.state

    def resume_timing(self, state: list[int]) -> None:
        """Take over what :attr:`timing` was when the same frame had come."""
        self._playback.timeline.restore(state)

    def skip(self, number: int, pts: int) -> bool:
        """Make the frame at ``pts`` the coming one, decoded from a key frame before it."""
        return go_to_frame(self._playback, pts)

    def rewind(self) -> None:
        """Begin again with the first frame wanted."""
        self._playback.reopen()
        if self._part.start > 0:
            go_to_start(self._playback, self._part)

    # The end.

    def last_duration(self) -> int:
        """Duration of the last frame, in units of ``time_base``: up to where the stream ends."""
        timeline, begin = self._playback.timeline, self._part.begin
        usual = timeline.last_duration()
        end = describe.last_frame_end(self.stream, begin)
        if end is None or self._playback.pace.counted:
            return usual
        rest = round((begin + end) / self.time_base) - timeline.last
        return rest if 0 < rest < usual else usual

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """After the last frame: serve the other streams, and look whether the end was missing.

        Args:
            report: where to write what is found.
            stopped_at: where the last frame ended, in seconds and not shifted, if more would
                follow; None if the trim or the input ended.
        """
        report.decode_errors = self._playback.errors
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
        report.expected_duration = describe.header_length(self.container, self._part.begin)
        missing = self._demuxer.missing_end(self._part.begin)
        if missing > max(_TOLERANCE, 2 / self.rate) + describe.empty_edits(self.container):
            report.missing_duration = missing

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        self._playback.close()
