"""A sink that writes segments, and joins them when all are there."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.frame import Frame
from vsr.report import FrameTimes
from vsr.resume.account import Account
from vsr.resume.feed import Anchor, Feed
from vsr.resume.job import SegmentJob
from vsr.resume.manifest import End
from vsr.resume.open_segment import OpenSegment
from vsr.resume.room import amount
from vsr.resume.segments import Provenance
from vsr.resume.work import WorkFolder
from vsr.sinks.clock import encoder_clock
from vsr.sinks.framemd5 import FrameHashes
from vsr.sinks.sink import SinkContext, check_frame

__all__ = ["SegmentSink"]

logger = logging.getLogger(__name__)

_NO_ANCHOR = Anchor("", None)  # of a segment that the film's end has cut short


class SegmentSink(SinkContext):
    """Writes the frames of a feed into segments; what is finished outlasts the run.

    Args:
        work: where segments go.
        feed: says which frame of the film each is that comes.
        job: all else.

    Attributes:
        frames: frames in finished segments, and those written since.
        notes: one line for everything that was lost or repaired; complete after :meth:`finish`.
        times: when each frame is shown; known when the output is complete.
        account: what was found of all frames; known when the output is complete.
        reused: frames written by this run that repeat the one before.
    """

    def __init__(self, work: WorkFolder, feed: Feed, job: SegmentJob) -> None:
        self.frames = work.frames
        self.notes = job.tools.joiner.notes
        self.notes += [note for note in work.manifest.notes if note not in self.notes]
        self.times, self.account, self.reused = FrameTimes(), Account(), 0
        self._engine_before = list(work.manifest.engine)
        self._work, self._feed, self._joiner, self._job = work, feed, job.tools.joiner, job
        self._clock = encoder_clock(job.encoding, job.info)
        self._marked = 0  # frames whose times the clock knows
        self._open: OpenSegment | None = None
        self._room_looked_at = False
        if work.manifest.segments:
            self._look_for_room(more=True)

    @property
    def is_published(self) -> bool:
        """Whether there is an output; the segments are not needed any more."""
        return self._result is not None

    def write(self, frame: Frame) -> None:
        """Encode one frame into its segment; the last one of a segment completes it.

        Raises:
            SinkError: encoding or writing failed, e.g. the disk is full, or the frame is not the
                one that the source gave.
            SourceError: the input was changed meanwhile; the segment is dropped.
        """
        check_frame(frame, self._job.encoding.format, self._job.info)
        handed = self._feed.handed.popleft()
        if not handed.wanted:
            return
        count = self._work.manifest.segment_frames
        number, place = divmod(handed.number, count)
        with self._errors(listen=False):
            segment = self._open or self._begin(number)
            if handed.pts != frame.pts:
                raise SinkError(
                    f"{self._work.output}: segment {number}: frame {handed.number} came out of "
                    f"the network with the time {frame.pts} instead of {handed.pts}"
                )
            made = self._made(frame)
            segment.encode(place, frame, made)
            self._marked += 1
            self.reused += made.repeats
        self.frames += 1
        if segment.frames == count:
            self._job.glance()
            self._finish_segment(segment)

    def _finish(self) -> Path:
        """Complete the last segment and join all.

        Raises:
            SinkError: writing failed, or frames are missing; finished segments stay.
        """
        end = self._end()
        self._finish_last(end)
        with self._errors():
            self._work.conclude(end, self._job.source)
        self._check_complete(end)
        self._job.check_input()
        if (count := len(self._work.manifest.segments)) > 1:
            logger.info("joining %d segments", count)
        overwrite = self._job.overwrite or self._work.has_published()
        return self._tell_of(self._joiner.join(overwrite=overwrite), replace=overwrite)

    def _keep_partial(self) -> Path | None:
        """Leave the finished segments for a run that goes on.

        Without any, what there is becomes ``out.partial.mp4``, as of a short film. Of pictures,
        each stays.

        Raises:
            SinkError: writing failed.
        """
        if self._work.frame_by_frame and self._open is not None:
            with self._errors(listen=False):
                self._open.flush()
        if not self._work.frames:
            return self._keep_broken()
        self._abort()
        return None

    def _keep_broken(self) -> Path | None:
        """Join what there is, of an input that breaks off: ``out.partial.mp4``.

        Raises:
            SinkError: writing failed.
        """
        broken_off = self._open
        if broken_off is not None:
            self._finish_segment(broken_off)
        if not self._is_gapless():
            self._abort()
            return None
        try:
            return self._tell_of(self._joiner.join_partial(), replace=self._job.overwrite)
        except BaseException:
            if broken_off is not None:
                self._work.forget(broken_off.number)
            raise

    def _abort(self) -> None:
        """Drop the segment that is not finished."""
        if self._open is not None:
            self._open.abort()
            self._open = None

    # Segments.

    def _begin(self, number: int) -> OpenSegment:
        if not self._work.frame_by_frame:
            self._catch_up(number * self._work.manifest.segment_frames)
        segment = OpenSegment(number, self._work, self._job, self._clock, self._note)
        self._open = segment
        return segment

    def _catch_up(self, first: int) -> None:
        """Tell the clock the times of finished frames before ``first``."""
        manifest = self._work.manifest
        while self._marked < first:
            index = self._work.index(manifest.segments[self._marked // manifest.segment_frames])
            for pts, duration in zip(index.pts, index.durations, strict=True):
                self._clock.mark(pts, duration, manifest.time_base)
            self._marked += len(index.pts)
        self._clock.forget()

    def _made(self, frame: Frame) -> Provenance:
        if (incident := self._job.incident()) is None:
            return Provenance(repeats=frame.repeats)
        return Provenance(fault=incident.fault, repaired=incident.repaired)

    def _finish_segment(self, segment: OpenSegment) -> None:
        try:
            with self._errors(listen=False):
                self._work.manifest.engine = [*self._engine_before, *self._job.engine]
                segment.finish(self._feed.anchors.pop(segment.number, _NO_ANCHOR))
        finally:
            segment.abort()
            self._open = None
        self._look_for_room(more=segment.frames == self._work.manifest.segment_frames)

    def _finish_last(self, end: End) -> None:
        """Complete the segment that the film's end cuts short."""
        number = (end.frames - 1) // self._work.manifest.segment_frames
        segment = self._open
        if segment is None and self._work.kept.get(number):
            segment = self._begin(number)  # the run before was killed before it was entered
        if segment is not None:
            self._finish_segment(segment)

    def _look_for_room(self, *, more: bool) -> None:
        """Once, judge by the segments that are there; ``more`` tells that others may follow."""
        if self._room_looked_at:
            return
        self._room_looked_at = True
        if self._job.expected is None and self._feed.end is None and more:
            logger.info("how much room is needed is not known: nothing says how long the source is")
        if missing := self._work.room_missing(self._job.expected):
            self.notes.warn(
                f"the disk of {self._work.path} will be about {amount(missing)} short: "
                "segments and the finished file are there at once"
            )

    # The end.

    def _end(self) -> End:
        end = self._feed.end
        if end is None or self._feed.handed:
            raise SinkError(f"{self._work.output}: not all frames came out of the network")
        return end

    def _check_complete(self, end: End) -> None:
        if not self._work.manifest.complete or self._work.manifest.frames != end.frames:
            raise SinkError(
                f"{self._work.output}: {self._work.manifest.frames} frames are finished of "
                f"{end.frames} that were decoded"
            )

    def _is_gapless(self) -> bool:
        numbers = sorted(self._work.manifest.segments)
        return bool(numbers) and numbers == list(range(len(numbers)))

    def _tell_of(self, path: Path, *, replace: bool) -> Path:
        """Remember when frames are shown and what was found of them, and write their hashes.

        Returns ``path``, the output. Hashes that are there may be replaced if ``replace`` says so.
        """
        segments, base = self._work.manifest.segments, self._work.manifest.time_base
        self.times.time_base = base
        hashes = FrameHashes(self._job.info)
        for number in sorted(segments):
            index = self._work.index(segments[number])
            self.times.pts.extend(index.pts)
            self.times.durations.extend(index.durations)
            self.account.add(index, base)
            for row in zip(index.pts, index.durations, index.md5, strict=self._job.framemd5):
                hashes.append(*row, index.frame_bytes)
        if self._job.framemd5:
            hashes.write(path, run=self._work.output, replace=replace)
        return path

    def _note(self, note: str) -> None:
        """Tell of what an encoder has lost, and keep it for the runs to come."""
        if note not in self._work.manifest.notes:
            self._work.manifest.notes.append(note)
        self.notes.warn(note)

    def _errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        return explain(f"{self._work.output}: cannot be written", SinkError, listen=listen)
