"""Pictures become frames, which say how they are to be read, and are counted."""

from collections import deque
from fractions import Fraction

from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from vsr.config import SourceConfig
from vsr.frame import Frame, VideoInfo
from vsr.sources.hardware import download
from vsr.sources.lookahead import TimedFrame
from vsr.sources.planes import planes_of
from vsr.sources.reader import Reader
from vsr.sources.report import SourceReport
from vsr.sources.side_data import of_frame
from vsr.sources.stage import FilteredPicture, PictureStage

__all__ = ["FrameMaker"]

_LEAP = 10
"""Seconds from one frame to the next, as FFmpeg's -dts_delta_threshold."""
_CAPTIONED = {Fraction(15), *(Fraction(n, d) for n in (24000, 30000, 60000) for d in (1000, 1001))}
"""Frames per second of what deinterlacers make at which they deal captions out anew, so many bytes
to each frame; at others both frames made of one have all of its (libavfilter/ccfifo.c)."""


class FrameMaker:
    """Makes what a source hands out.

    Args:
        reader: where the pictures come from.
        stage: what they have gone through.
        config: what was asked for.
        info: what the source says of all its frames.
        report: where frames are counted.
    """

    def __init__(
        self, reader: Reader, stage: PictureStage, config: SourceConfig, info: VideoInfo,
        report: SourceReport,
    ) -> None:  # fmt: skip
        self._reader, self._stage, self._info, self._report = reader, stage, info, report
        doubled = config.fields is not None and config.fields.field_rate
        self._captions_twice = doubled and 2 * reader.facts.rate not in _CAPTIONED
        self._coded_sar: Fraction | None = None
        self._profiles: deque[tuple[Fraction, bytes | None]] = deque()
        self._caption: bytes | None = None

    def count(self, taken: list[TimedFrame]) -> None:
        """Count a picture, and the decoded frames that were ``taken`` for it."""
        report = self._report
        for timed in taken:
            report.note(repaired=timed.repaired, damaged=timed.damaged)
            report.not_finite += timed.not_finite
            self._watch_shape(timed.sar)
        report.frames += 1
        report.decode_errors = self._reader.decode_errors

    def watch_clock(self, distance: int) -> None:
        """Count what FFmpeg takes for a join of two recordings rather than for a pause.

        Args:
            distance: from one picture to the next, in the source's time base.
        """
        seconds = distance * self._info.time_base
        if seconds > _LEAP and self._reader.facts.may_leap:
            self._report.jumps += 1
            self._report.longest_jump = max(self._report.longest_jump, seconds)

    def make(self, picture: FilteredPicture, duration: int) -> Frame:
        """What is handed out of ``picture``.

        Args:
            picture: the one that was counted last, if any was.
            duration: how long it is shown, in its time base.
        """
        info = self._info
        frame = self._stage.conformed(picture)
        colour = self._stage.colour_of(picture.frame)
        return Frame(
            planes=planes_of(frame, info.format), format=info.format, width=info.width,
            height=info.height, colour=colour, pts=picture.pts,
            time_base=picture.time_base, duration=duration,
            corrupt=any(timed.damaged for timed in picture.taken),
            captions=self._captioned(picture.frame), icc=self._profile(picture),
        )  # fmt: skip

    def _captioned(self, frame: VideoFrame) -> VideoFrame | None:
        """``frame`` if it carries captions; of two that carry the same frame's, the first."""
        if not self._reader.facts.has_side_data:
            return None
        data = of_frame(frame, SideDataType.A53_CC)
        second = self._captions_twice and data == self._caption
        self._caption = None if second else data
        return download(frame) if data is not None and not second else None

    def _profile(self, picture: FilteredPicture) -> bytes | None:
        """The ICC profile of the file that was shown at the time; filters may hold some back."""
        clock, profiles = self._stage.clock, self._profiles
        profiles.extend((clock.time(t.pts) * clock.time_base, t.icc) for t in picture.taken)
        while len(profiles) > 1 and profiles[1][0] <= picture.pts * picture.time_base:
            profiles.popleft()
        return profiles[0][1] if profiles else None

    def _watch_shape(self, sar: Fraction | None) -> None:
        """Notice an aspect ratio that changes in mid-stream."""
        before = self._coded_sar
        if before is not None and sar is not None and sar != before:
            self._report.reshaped = (before, sar)
        self._coded_sar = sar
