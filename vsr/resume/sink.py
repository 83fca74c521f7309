"""A sink that writes segments, and joins them when all are there."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.encoding import Encoding, encoder_time_base
from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.frame import Frame, VideoInfo
from vsr.health import Incident
from vsr.report import FrameTimes
from vsr.resume.account import Account
from vsr.resume.coding import Coder
from vsr.resume.feed import Anchor, Feed
from vsr.resume.join import Joiner
from vsr.resume.manifest import End
from vsr.resume.room import amount
from vsr.resume.segments import Index, Provenance, Writer
from vsr.resume.work import WorkFolder
from vsr.sinks.clock import EncoderClock
from vsr.sinks.framemd5 import FrameHashes, digest
from vsr.sinks.sink import SinkContext, check_frame
from vsr.sources import SourceReport

__all__ = ["SegmentJob", "SegmentSink", "SegmentTools"]

logger = logging.getLogger(__name__)

_NO_ANCHOR = Anchor("", None)  # of a segment that the film's end has cut short


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTools:
    """What segments are made with."""

    joiner: Joiner
    new_coder: Callable[[EncoderClock, Callable[[str], None]], Coder]
    """Opens an encoder for a segment, of the times of frames and what takes lines for the log."""
    new_writer: Callable[[Index, Callable[[str], None]], Writer]
    """Begins a segment, of its number and first frame, and what takes lines for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentJob:
    """What a sink of segments has to know of the run."""

    encoding: Encoding
    tools: SegmentTools
    info: VideoInfo
    """Facts about the *output*."""
    framemd5: bool
    """Whether each frame is hashed."""
    overwrite: bool
    """Whether an existing output may be replaced."""
    expected: int | None
    """How many frames will come, if that is known."""
    check_input: Callable[[], None]
    """Raises SourceError if the input is not what it was when the work began."""
    incident: Callable[[], Incident | None]
    """What was wrong with the frame that was delivered last."""
    engine: list[str]
    """What the engine has to say; grows while it works."""
    source: SourceReport
    """What there is to say of the source; complete when it has been read to its end."""


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
        self._clock = EncoderClock(encoder_time_base(job.encoding, job.info))
        self._marked = 0  # frames whose times the clock knows
        self._coder: Coder | None = None
        self._writer: Writer | None = None
        self._room_looked_at = False
        if work.manifest.segments:
            self._look_for_room()

    @property
    def is_published(self) -> bool:
        """Whether there is an output; the segments are not needed any more."""
        return self._result is not None

    def write(self, frame: Frame) -> None:
        """Encode one frame into its segment; the last one of a segment completes it.

        Raises:
            SinkError: encoding or writing failed, e.g. the disk is full, or the frame is not the
                one that the source gave.
        """
        check_frame(frame, self._job.encoding.format, self._job.info)
        handed = self._feed.handed.popleft()
        if not handed.wanted:
            return
        count = self._work.manifest.segment_frames
        number, place = divmod(handed.number, count)
        with self._errors(listen=False):
            if self._writer is None:
                self._begin(number)
            if handed.pts != frame.pts:
                raise SinkError(
                    f"{self._work.output}: segment {number}: frame {handed.number} came out of "
                    f"the network with the time {frame.pts} instead of {handed.pts}"
                )
            self._encode(place, frame)
        self.frames += 1
        if self._writer is not None and self._writer.frames == count:
            self._finish_segment()

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
        return self._tell_of(self._joiner.join(overwrite=overwrite))

    def _keep_partial(self) -> Path | None:
        """Leave the finished segments for a run that goes on.

        Without any, what there is becomes ``out.partial.mp4``, as of a short film. Of pictures,
        each stays.

        Raises:
            SinkError: writing failed.
        """
        if self._work.frame_by_frame and self._coder is not None:
            with self._errors(listen=False):
                self._put(self._coder.flush())
        if not self._work.frames:
            return self._keep_broken()
        self._abort()
        return None

    def _keep_broken(self) -> Path | None:
        """Join what there is, of an input that breaks off: ``out.partial.mp4``.

        Raises:
            SinkError: writing failed.
        """
        broken_off = None if self._writer is None else self._writer.index.number
        if broken_off is not None:
            self._finish_segment()
        if not self._is_gapless():
            self._abort()
            return None
        try:
            return self._tell_of(self._joiner.join_partial())
        except BaseException:
            if broken_off is not None:
                self._work.forget(broken_off)
            raise

    def _abort(self) -> None:
        """Drop the segment that is not finished."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = self._coder = None

    # Segments.

    def _begin(self, number: int) -> None:
        first = number * self._work.manifest.segment_frames
        if not self._work.frame_by_frame:
            self._catch_up(first)
        index = Index(number=number, first=first)
        try:
            self._coder = self._job.tools.new_coder(self._clock, self._note)
            self._writer = self._job.tools.new_writer(index, self._note)
        except FileNotFoundError as error:
            raise SinkError(f"{self._work.path}: has disappeared") from error

    def _catch_up(self, first: int) -> None:
        """Tell the clock the times of finished frames before ``first``."""
        manifest = self._work.manifest
        while self._marked < first:
            index = self._work.index(manifest.segments[self._marked // manifest.segment_frames])
            for pts, duration in zip(index.pts, index.durations, strict=True):
                self._clock.mark(pts, duration, manifest.time_base)
            self._marked += len(index.pts)
        self._clock.forget()

    def _encode(self, place: int, frame: Frame) -> None:
        assert self._writer is not None
        assert self._coder is not None
        index = self._writer.index
        unit = frame.time_base / self._work.manifest.time_base
        made = self._made(frame)
        self._writer.enter(place, round(frame.pts * unit), round(frame.duration * unit), made)
        if self._job.framemd5:
            md5, index.frame_bytes = digest(frame)
            index.md5.append(md5)
        self._put(self._coder.encode(frame))
        self._marked += 1
        self.reused += made.repeats

    def _made(self, frame: Frame) -> Provenance:
        if (incident := self._job.incident()) is None:
            return Provenance(repeats=frame.repeats)
        return Provenance(fault=incident.fault, repaired=incident.repaired)

    def _put(self, packets: "list[Packet[Any]]") -> None:
        assert self._writer is not None
        for packet in packets:
            self._writer.add(packet)

    def _finish_segment(self) -> None:
        writer, coder = self._writer, self._coder
        assert writer is not None
        assert coder is not None
        try:
            with self._errors(listen=False):
                self._put(coder.flush())
                writer.index.extradata = coder.extradata.hex()
                self._compare(writer.index, coder.times)
                anchor = self._feed.anchors.pop(writer.index.number, _NO_ANCHOR)
                writer.index.timing = anchor.timing
                self._work.manifest.engine = [*self._engine_before, *self._job.engine]
                sha256 = writer.finish()
                self._work.add(writer.index, size=writer.size, sha256=sha256, anchor=anchor.md5)
        finally:
            writer.abort()
            self._writer = self._coder = None
        self._look_for_room()

    def _finish_last(self, end: End) -> None:
        """Complete the segment that the film's end cuts short."""
        number = (end.frames - 1) // self._work.manifest.segment_frames
        if self._writer is None and self._work.kept.get(number):
            self._begin(number)  # the run before was killed before it was entered
        if self._writer is not None:
            self._finish_segment()

    def _compare(self, index: Index, times: list[int]) -> None:
        """Make sure that the encoder gave a packet for each frame of the decoder, and no other."""
        found, wanted = sorted(packet[0] for packet in index.packets), sorted(times)
        if found == wanted:
            return
        what = f"{len(wanted)} frames went in, {len(found)} packets came out"
        if len(found) == len(wanted):
            what = "packets came out with other times than the frames that went in"
        raise SinkError(
            f"{self._work.output}: segment {index.number} (frames {index.first} to "
            f"{index.first + len(wanted) - 1}): of {self._job.encoding.codec} {what}"
        )

    def _look_for_room(self) -> None:
        if self._room_looked_at:
            return
        self._room_looked_at = True
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

    def _tell_of(self, path: Path) -> Path:
        """Remember when frames are shown and what was found of them, and write their hashes.

        Returns ``path``, the output.
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
            hashes.write(path)
        return path

    def _note(self, note: str) -> None:
        """Tell of what an encoder has lost, and keep it for the runs to come."""
        if note not in self._work.manifest.notes:
            self._work.manifest.notes.append(note)
        self.notes.warn(note)

    def _errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        return explain(f"{self._work.output}: cannot be written", SinkError, listen=listen)
